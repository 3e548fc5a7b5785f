// The second file of the program.
#include <ocellus/ocellus.hpp>

ocellus::Tensor other_product() {
  return ocellus::matmul(ocellus::Tensor({2, 2}, {1, 2, 3, 4}), ocellus::Tensor({2, 2}, {5, 6, 7, 8}));
}
