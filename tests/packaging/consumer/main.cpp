// A user's program: two files include the library, so a definition that is emitted twice fails to link.
#include <cstdio>

#include <ocellus/ocellus.hpp>

ocellus::Tensor other_product();

int main() {
  const ocellus::Tensor a({2, 2}, {1, 2, 3, 4});
  const ocellus::Tensor b({2, 2}, {5, 6, 7, 8});
  const ocellus::Tensor c = ocellus::matmul(a, b);
  const ocellus::Tensor d = other_product();
  std::printf("ocellus %s: %g %g\n", OCELLUS_VERSION, static_cast<double>(c[3]), static_cast<double>(d[3]));
  return c[0] == 19 && c[3] == 50 && d[3] == 50 ? 0 : 1;
}
