// What the tests of io/ share: a folder that disappears, the text of an expected error, bytes put together by hand.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include <ocellus/core/error.hpp>
#include <ocellus/core/tensor.hpp>
#include <ocellus/io/file.hpp>

namespace io_test {

class TemporaryFolder {
 public:
  TemporaryFolder() : path_((std::filesystem::temp_directory_path() / "ocellus-io-XXXXXX").string()) {
    if (!::mkdtemp(path_.data())) throw std::runtime_error("no temporary folder");
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  std::string write(const std::string& name, std::string_view content) const {
    std::ofstream(*this / name, std::ios::binary) << content;
    return *this / name;
  }
  std::size_t entries() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(path_), {}));
  }

 private:
  std::string path_;
};

inline std::string content_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// Bytes of exactly this text on the heap, so that a sanitizer sees every step over either end.
inline ocellus::Bytes bytes_of(std::string_view text) {
  const auto memory = std::make_shared<std::unique_ptr<std::byte[]>>(new std::byte[text.size()]);
  if (!text.empty()) std::memcpy(memory->get(), text.data(), text.size());
  return {ocellus::ByteSpan(memory->get(), text.size()), memory};
}

// The message of the FileError that f() throws, "" if it returns. Any other exception passes through and fails the
// test.
template <class F>
std::string file_error_of(F&& f) {
  try {
    f();
  } catch (const ocellus::FileError& error) {
    return error.what();
  }
  return "";
}

inline bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

// A fingerprint that reads every byte of the tensor.
inline std::uint64_t touch(const ocellus::AnyTensor& tensor) {
  std::uint64_t sum = 0;
  const auto* p = static_cast<const unsigned char*>(tensor.raw());
  for (std::size_t i = 0; i < tensor.spec().bytes(); ++i) sum = sum * 31 + p[i];
  return sum;
}

inline bool same(const ocellus::AnyTensor& a, const ocellus::AnyTensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() &&
         (a.spec().bytes() == 0 || std::memcmp(a.raw(), b.raw(), a.spec().bytes()) == 0);
}

// A tensor whose bytes count up from `first`.
inline ocellus::AnyTensor counting(const ocellus::Spec& spec, unsigned first) {
  ocellus::AnyTensor tensor(spec);
  auto* p = static_cast<unsigned char*>(tensor.raw());
  for (std::size_t i = 0; i < spec.bytes(); ++i) p[i] = static_cast<unsigned char>(first + i);
  return tensor;
}

template <class T>
std::string little(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

template <class T>
std::string big(T value) {
  std::string text = little(value);
  return {text.rbegin(), text.rend()};
}

inline std::string from_hex(std::string_view digits) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < digits.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(std::string(digits.substr(i, 2)), nullptr, 16));
  }
  return bytes;
}

}  // namespace io_test
