#include <cstdio>
#include <ocellus/pipeline.hpp>
int main(int argc, char** argv) {
  using namespace ocellus;
  const auto model = open(argv[1]);
  const auto result = model.segment(load_image(argv[2]));
  result.save_overlay("out.png");
}
