// Whole files in and out. Reading gives Bytes, memory that stays alive as long as somebody holds it; writing is atomic:
// a reader, or this machine after a crash, finds the old file or the new one and nothing between.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <ocellus/core/config.hpp>
#include <ocellus/io/limits.hpp>

namespace ocellus {

using ByteSpan = std::span<const std::byte>;

inline ByteSpan as_bytes(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

// Read-only bytes with a share in what owns them.
class Bytes {
 public:
  Bytes() = default;
  // Memory that `owner` keeps alive.
  Bytes(ByteSpan bytes, std::shared_ptr<const void> owner) : bytes_(bytes), owner_(std::move(owner)) {}

  const std::byte* data() const { return bytes_.data(); }
  std::size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  ByteSpan span() const { return bytes_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()}; }
  const std::shared_ptr<const void>& owner() const { return owner_; }

  // A window that shares the memory; offset + count must lie inside.
  Bytes part(std::size_t offset, std::size_t count) const { return {bytes_.subspan(offset, count), owner_}; }

 private:
  ByteSpan bytes_;
  std::shared_ptr<const void> owner_;
};

// The pieces one after the other, in memory of their own that is aligned to a cache line.
Bytes join_bytes(std::span<const ByteSpan> pieces);

// Reads a regular file into memory. Throws FileError: missing, unreadable, not a regular file, larger than
// limits.file_bytes, changed while it was read.
Bytes read_file(const std::string& path, const Limits& limits = {});

// Maps a large regular file instead of reading it, so that opening gigabytes of weights costs what is used of them. The
// mapping is private: writing to its memory never reaches the file. Replace a mapped file only by rename, as
// write_file_atomically does: truncating it in place ends the process (SIGBUS) at the next access. Where others may do
// that, use read_file.
Bytes map_file(const std::string& path, const Limits& limits = {});

// Writes the pieces one after the other to a temporary file in the same folder, forces them to disk and renames it to
// `path`. Keeps the permissions of a file that it replaces and follows a symbolic link. Throws FileError (disk full, no
// permission, not a regular file); the old file is then untouched and the temporary one gone.
void write_file_atomically(const std::string& path, std::span<const ByteSpan> pieces);
inline void write_file_atomically(const std::string& path, std::string_view text) {
  const ByteSpan pieces[] = {as_bytes(text)};
  write_file_atomically(path, pieces);
}

}  // namespace ocellus

#if !defined(OCELLUS_SPLIT) || defined(OCELLUS_IMPL_IO)
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <system_error>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ocellus/core/error.hpp>

namespace ocellus {
namespace io_detail {

// Mapping pays from here on; below, a copy is as fast and safe from truncation by others.
inline constexpr std::uint64_t map_from_bytes = std::uint64_t{1} << 20;

OCELLUS_COLD OCELLUS_FN std::string system_message(int code) { return std::generic_category().message(code); }

[[noreturn]] OCELLUS_COLD OCELLUS_FN void fail_with_errno(const std::string& path, const char* action) {
  const int code = errno;
  throw FileError(path, std::string(action) + ": " + system_message(code));
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

OCELLUS_FN void check_path(const std::string& path) {
  if (path.empty()) throw FileError("(empty path)", "a file name was expected");
  if (path.find('\0') != std::string::npos) throw FileError(path.c_str(), "the path contains a NUL character");
}

OCELLUS_FN void check_regular(const std::string& path, const struct stat& status) {
  if (S_ISREG(status.st_mode)) return;
  const char* kind = "a device or socket";
  if (S_ISDIR(status.st_mode)) kind = "a folder";
  if (S_ISFIFO(status.st_mode)) kind = "a named pipe";
  throw FileError(path, std::string("a regular file was expected, this is ") + kind);
}

// Opens a regular file and returns its size.
OCELLUS_FN std::uint64_t open_regular(const std::string& path, const Limits& limits, int& fd) {
  check_path(path);
  do {
    // Nonblocking: opening a pipe would wait for a writer.
    fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) fail_with_errno(path, "cannot be opened");
  Descriptor guard(fd);
  struct stat status {};
  if (::fstat(fd, &status) != 0) fail_with_errno(path, "cannot be examined");
  check_regular(path, status);
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (size > limits.file_bytes) {
    throw FileError(path, "has " + std::to_string(size) + " bytes, the limit is " + std::to_string(limits.file_bytes) +
                              " (Limits::file_bytes)");
  }
  guard.release();
  return size;
}

OCELLUS_FN std::shared_ptr<std::byte> allocate_bytes(std::uint64_t size, const std::string& source) {
  constexpr std::align_val_t alignment{64};
  void* memory = ::operator new(static_cast<std::size_t>(size), alignment, std::nothrow);
  if (!memory) throw FileError(source, "not enough memory for " + std::to_string(size) + " bytes");
  return {static_cast<std::byte*>(memory), [](std::byte* p) { ::operator delete(p, std::align_val_t{64}); }};
}

OCELLUS_FN Bytes read_descriptor(int fd, std::uint64_t size, const std::string& path) {
  if (size == 0) return {};
  const std::shared_ptr<std::byte> memory = allocate_bytes(size, path);
  std::uint64_t done = 0;
  while (done < size) {
    const ssize_t got = ::read(fd, memory.get() + done, static_cast<std::size_t>(size - done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_with_errno(path, "cannot be read");
    if (got == 0) throw FileError(path, "became shorter while it was read", static_cast<std::int64_t>(done));
    done += static_cast<std::uint64_t>(got);
  }
  return {ByteSpan(memory.get(), static_cast<std::size_t>(size)), memory};
}

struct Mapping {
  void* address;
  std::size_t size;
  Mapping(void* at, std::size_t bytes) : address(at), size(bytes) {}
  ~Mapping() { ::munmap(address, size); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
};

// A file under a temporary name that disappears unless it is renamed.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::string target) : target_(std::move(target)) {
    static std::atomic<unsigned> counter{0};
    for (int attempt = 0; attempt < 100; ++attempt) {
      path_ = target_ + ".tmp." + std::to_string(::getpid()) + "." + std::to_string(counter++);
      fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      if (fd_ >= 0) return;
      if (errno != EEXIST && errno != EINTR) break;
    }
    fail_with_errno(target_, "cannot be written: no temporary file can be made beside it");
  }
  ~TemporaryFile() {
    if (fd_ >= 0) ::close(fd_);
    if (!path_.empty()) ::unlink(path_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  // Failure would leave the permissions of a new file, which is no reason to lose the data.
  void set_mode(mode_t mode) { (void)!::fchmod(fd_, mode); }

  void write(ByteSpan bytes) {
    while (!bytes.empty()) {
      const ssize_t put = ::write(fd_, bytes.data(), bytes.size());
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) fail_with_errno(target_, "cannot be written");
      bytes = bytes.subspan(static_cast<std::size_t>(put));
    }
  }

  // Data first, then the name: some file systems would otherwise order the rename before the data.
  void commit() {
    if (!flush(fd_)) fail_with_errno(target_, "cannot be forced to disk");
    if (::close(std::exchange(fd_, -1)) != 0) fail_with_errno(target_, "cannot be closed after writing");
    if (::rename(path_.c_str(), target_.c_str()) != 0) fail_with_errno(target_, "cannot be replaced");
    path_.clear();
    flush_folder();
  }

 private:
  static bool flush(int fd) {
#if defined(__APPLE__)
    if (::fcntl(fd, F_FULLFSYNC) == 0) return true;
#endif
    int result = 0;
    do {
      result = ::fsync(fd);
    } while (result != 0 && errno == EINTR);
    return result == 0;
  }

  // Makes the rename itself durable. File systems that cannot do this for a folder say so; the file is in place all the
  // same.
  void flush_folder() const {
    const std::size_t slash = target_.rfind('/');
    const std::string folder = slash == std::string::npos ? "." : target_.substr(0, slash + 1);
    const Descriptor fd(::open(folder.c_str(), O_RDONLY | O_CLOEXEC));
    if (fd.get() >= 0) flush(fd.get());
  }

  std::string target_;
  std::string path_;
  int fd_ = -1;
};

}  // namespace io_detail

OCELLUS_FN Bytes join_bytes(std::span<const ByteSpan> pieces) {
  std::size_t size = 0;
  for (const ByteSpan piece : pieces) size += piece.size();
  if (size == 0) return {};
  const std::shared_ptr<std::byte> memory = io_detail::allocate_bytes(size, "(memory)");
  std::byte* to = memory.get();
  for (const ByteSpan piece : pieces) to = std::copy(piece.begin(), piece.end(), to);
  return {ByteSpan(memory.get(), size), memory};
}

OCELLUS_FN Bytes read_file(const std::string& path, const Limits& limits) {
  int fd = -1;
  const std::uint64_t size = io_detail::open_regular(path, limits, fd);
  const io_detail::Descriptor guard(fd);
  return io_detail::read_descriptor(fd, size, path);
}

OCELLUS_FN Bytes map_file(const std::string& path, const Limits& limits) {
  int fd = -1;
  const std::uint64_t size = io_detail::open_regular(path, limits, fd);
  const io_detail::Descriptor guard(fd);
  if (size < io_detail::map_from_bytes) return io_detail::read_descriptor(fd, size, path);
  int flags = MAP_PRIVATE;
#if defined(MAP_NORESERVE)
  flags |= MAP_NORESERVE;  // writable, so that weights can be trained in place, but nothing is set aside for that
#endif
  const auto length = static_cast<std::size_t>(size);
  void* address = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, flags, fd, 0);
  if (address == MAP_FAILED) return io_detail::read_descriptor(fd, size, path);  // some network file systems cannot map
  auto mapping = std::make_shared<const io_detail::Mapping>(address, length);
  return {ByteSpan(static_cast<const std::byte*>(address), length), std::move(mapping)};
}

OCELLUS_FN void write_file_atomically(const std::string& path, std::span<const ByteSpan> pieces) {
  io_detail::check_path(path);
  std::string target = path;
  struct stat status {};
  const bool replaces = ::stat(path.c_str(), &status) == 0;
  if (replaces) {
    io_detail::check_regular(path, status);
    const std::unique_ptr<char, void (*)(void*)> real(::realpath(path.c_str(), nullptr), std::free);
    if (!real) io_detail::fail_with_errno(path, "cannot be resolved");
    target = real.get();
  }
  io_detail::TemporaryFile file(target);
  if (replaces) file.set_mode(status.st_mode & 07777);
  for (const ByteSpan piece : pieces) file.write(piece);
  file.commit();
}

}  // namespace ocellus
#endif
