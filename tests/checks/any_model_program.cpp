// The same with whatever model the directory holds: a header-only program then compiles every architecture.
#include <ocellus/ocellus.hpp>

int main(int count, char** arguments) {
  if (count != 3) return 2;
  const auto model = ocellus::open(arguments[1]);
  const auto result = model.segment(ocellus::read_image(arguments[2]));
  result.save_overlay("overlay.png");
  return 0;
}
