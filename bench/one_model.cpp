// An application with one model: segments a picture. limits.py measures its size.
// Usage: bench_one_model model.safetensors picture out.png
#include <cstdio>

#include <ocellus/graph/optimize.hpp>
#include <ocellus/graph/plan.hpp>
#include <ocellus/io/safetensors.hpp>
#include <ocellus/models/segformer.hpp>
#include <ocellus/pipeline/label_map.hpp>
#include <ocellus/vision/image_file.hpp>
#include <ocellus/vision/preprocess.hpp>

using namespace ocellus;

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  try {
    SegFormerConfig config = SegFormerConfig::b0();
    config.labels = config::default_labels(19);
    SegFormer model(config);
    load_state(model, read_safetensors(argv[1]));
    const Image picture = read_image(argv[2]);
    const Tensor input = to_tensor({&picture, 1}, Preprocess{.size = Size2(512)}, 3);
    const Plan plan(optimize(trace(model, input.shape())));
    const auto workspace = plan.workspace();
    const AnyTensor inputs[] = {input};
    plan.run(inputs, *workspace);
    const BasicTensor<std::int64_t> labels = label_map(Tensor(workspace->output(0)), picture.size());
    Image grey(picture.size(), 1);
    for (Index i = 0; i < labels.numel(); ++i) grey.writable()[i] = static_cast<std::uint8_t>(labels[i]);
    write_png(argv[3], grey);
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
