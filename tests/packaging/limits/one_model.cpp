// An application with one model: built by its header, optimised, run.
#include <ocellus/graph/optimize.hpp>
#include <ocellus/graph/plan.hpp>
#include <ocellus/io/safetensors.hpp>
#include <ocellus/models/segformer.hpp>
#include <ocellus/nn/state.hpp>

int main(int argc, char** argv) {
  using namespace ocellus;
  SegFormer model(SegFormerConfig::b0());
  if (argc > 1) load_parameters(named_parameters(model), read_safetensors(argv[1]), {}, argv[1]);
  const Plan plan(optimize(trace(model, {1, 64, 64, 3})));
  const auto workspace = plan.workspace();
  const AnyTensor inputs[] = {Tensor::full({1, 64, 64, 3}, 0.5f)};
  plan.run(inputs, *workspace);
  return workspace->output(0).shape() == Shape{1, 16, 16, 150} ? 0 : 1;
}
