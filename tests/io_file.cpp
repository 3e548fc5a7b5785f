// Reading, mapping and atomic writing of files; checksums.
#include <doctest/doctest.h>

#include <csignal>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ocellus/io/checked.hpp>
#include <ocellus/io/crc32c.hpp>
#include <ocellus/io/file.hpp>

#include "io_support.hpp"

using namespace ocellus;
using namespace io_test;

namespace {

struct FileSizeLimit {
  rlimit old{};
  void (*handler)(int);
  explicit FileSizeLimit(rlim_t bytes) : handler(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &old);
    rlimit lower = old;
    lower.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &lower);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &old);
    std::signal(SIGXFSZ, handler);
  }
};

}  // namespace

TEST_CASE("read_file and map_file give the file's bytes") {
  const TemporaryFolder folder;
  const std::size_t sizes[] = {
      0, 1, 4095, (std::size_t{1} << 20) - 1, std::size_t{1} << 20, (std::size_t{1} << 20) + 5};
  for (const std::size_t size : sizes) {
    CAPTURE(size);
    std::string content(size, '\0');
    for (std::size_t i = 0; i < size; ++i) content[i] = static_cast<char>(i * 7 + i / 256);
    const std::string path = folder.write("a", content);
    CHECK(read_file(path).text() == content);
    CHECK(map_file(path).text() == content);
    CHECK(reinterpret_cast<std::uintptr_t>(read_file(path).data()) % 64 == 0);
  }
}

TEST_CASE("bytes outlive the file and its name") {
  const TemporaryFolder folder;
  const std::string path = folder.write("a", std::string(std::size_t{2} << 20, 'x'));
  Bytes part = map_file(path).part(100, 3);
  ::unlink(path.c_str());
  CHECK(part.text() == "xxx");
}

TEST_CASE("a mapping is private: writing to its memory does not reach the file") {
  const TemporaryFolder folder;
  const std::string path = folder.write("a", std::string(std::size_t{2} << 20, 'x'));
  const Bytes mapped = map_file(path);
  const_cast<std::byte&>(mapped.data()[0]) = std::byte{'y'};
  CHECK(mapped.text()[0] == 'y');
  CHECK(content_of(path)[0] == 'x');
}

TEST_CASE("what is no readable regular file is refused by name") {
  const TemporaryFolder folder;
  const std::string pipe = folder / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  const std::string loop = folder / "loop";
  REQUIRE(::symlink("loop", loop.c_str()) == 0);
  struct Row {
    std::string path, expected;
  };
  const Row rows[] = {{folder / "none", "No such file"}, {folder.path(), "this is a folder"},
                      {pipe, "this is a named pipe"},    {"/dev/null", "this is a device"},
                      {"", "a file name was expected"},  {std::string("a\0b", 3), "NUL"},
                      {loop, "symbolic links"},          {folder / "none/a", "No such file"}};
  for (const Row& row : rows) {
    CAPTURE(row.path);
    CHECK(contains(file_error_of([&] { read_file(row.path); }), row.expected));
    CHECK(contains(file_error_of([&] { map_file(row.path); }), row.expected));
  }
  const std::string path = folder.write("big", std::string(100, 'x'));
  Limits limits;
  limits.file_bytes = 99;
  CHECK(contains(file_error_of([&] { read_file(path, limits); }), "has 100 bytes, the limit is 99"));
  if (::geteuid() != 0) {
    ::chmod(path.c_str(), 0);
    CHECK(contains(file_error_of([&] { read_file(path); }), "Permission denied"));
  }
}

TEST_CASE("a path need not be UTF-8") {
  const TemporaryFolder folder;
  const std::string path = folder / "\xff\xfe";
  write_file_atomically(path, "x");
  CHECK(read_file(path).text() == "x");
}

TEST_CASE("an atomic write replaces the file, keeps its permissions and follows links") {
  const TemporaryFolder folder;
  const std::string path = folder / "a";
  write_file_atomically(path, "one");
  CHECK(content_of(path) == "one");
  ::chmod(path.c_str(), 0640);
  REQUIRE(::symlink("a", (folder / "link").c_str()) == 0);
  const std::string second(3 << 20, 'y');
  const ByteSpan pieces[] = {as_bytes("<"), {}, as_bytes(second), as_bytes(">")};
  write_file_atomically(folder / "link", pieces);
  CHECK(content_of(path) == "<" + second + ">");
  struct stat status {};
  REQUIRE(::lstat((folder / "link").c_str(), &status) == 0);
  CHECK(S_ISLNK(status.st_mode));
  REQUIRE(::stat(path.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0640);
  CHECK(folder.entries() == 2);
}

TEST_CASE("a failed write leaves the old file and nothing else") {
  const TemporaryFolder folder;
  const std::string path = folder / "a";
  write_file_atomically(path, "old");
  {
    const FileSizeLimit disk(1 << 16);
    const std::string error = file_error_of([&] { write_file_atomically(path, std::string(1 << 20, 'x')); });
    CHECK(contains(error, "cannot be written"));
    CHECK(contains(error, path));
  }
  CHECK(content_of(path) == "old");
  CHECK(folder.entries() == 1);
  CHECK(contains(file_error_of([&] { write_file_atomically(folder / "none/a", "x"); }), "No such file"));
  CHECK(contains(file_error_of([&] { write_file_atomically(folder.path(), "x"); }), "this is a folder"));
  CHECK(contains(file_error_of([&] { write_file_atomically("/dev/null", "x"); }), "this is a device"));
}

TEST_CASE("a writer that is killed leaves the old file or a complete new one") {
  const TemporaryFolder folder;
  const std::string path = folder / "a";
  constexpr std::size_t size = 200'000;
  write_file_atomically(path, std::string(size, 'a'));
  int torn = 0;
  for (int round = 0; round < 40; ++round) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      for (char c = 'a';; c = c == 'z' ? 'a' : static_cast<char>(c + 1))
        write_file_atomically(path, std::string(size, c));
    }
    ::usleep(static_cast<useconds_t>(500 + 373 * round));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    const std::string content = content_of(path);
    torn += content.size() != size || content.find_first_not_of(content[0]) != std::string::npos;
  }
  CHECK(torn == 0);
}

TEST_CASE("checked arithmetic") {
  CHECK(checked_add(1, 2) == 3u);
  CHECK(checked_add(UINT64_MAX, 0) == UINT64_MAX);
  CHECK(!checked_add(UINT64_MAX, 1));
  CHECK(checked_multiply(0, UINT64_MAX) == 0u);
  CHECK(checked_multiply(UINT64_MAX, 0) == 0u);
  CHECK(checked_multiply(UINT32_MAX, UINT32_MAX) == 0xfffffffe00000001u);
  CHECK(!checked_multiply(std::uint64_t{1} << 32, std::uint64_t{1} << 32));
}

TEST_CASE("CRC-32C and CRC-32 match their published values, in one piece or several") {
  CHECK(crc32c(as_bytes("123456789")) == 0xe3069283u);
  CHECK(crc32(as_bytes("123456789")) == 0xcbf43926u);
  CHECK(crc32c({}) == 0);
  CHECK(crc32c(as_bytes(std::string(32, '\0'))) == 0x8a9136aau);    // RFC 3720 B.4
  CHECK(crc32c(as_bytes(std::string(32, '\xff'))) == 0x62a8ab43u);  // RFC 3720 B.4
  std::string text;
  for (int i = 0; i < 100; ++i) text += static_cast<char>(i * 37);
  const std::uint32_t whole = crc32c(as_bytes(text));
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    const std::string_view view = text;
    CHECK(crc32c(as_bytes(view.substr(cut)), crc32c(as_bytes(view.substr(0, cut)))) == whole);
  }
  int unnoticed = 0;
  for (std::size_t bit = 0; bit < text.size() * 8; ++bit) {
    std::string flipped = text;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    unnoticed += crc32c(as_bytes(flipped)) == whole;
  }
  CHECK(unnoticed == 0);
}
