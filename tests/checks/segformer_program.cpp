// A program that segments a picture with SegFormer alone; check_include_cost measures what compiling it takes.
#include <ocellus/models/segformer.hpp>
#include <ocellus/pipeline/model.hpp>
#include <ocellus/vision/image_file.hpp>

int main(int count, char** arguments) {
  if (count != 3) return 2;
  const auto model = ocellus::open<ocellus::SegFormer>(arguments[1]);
  const auto result = model.segment(ocellus::read_image(arguments[2]));
  result.save_overlay("overlay.png");
  return 0;
}
