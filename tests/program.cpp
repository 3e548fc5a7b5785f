// The contract of the program `ocellus`: exit codes, what it says and where, what a failure leaves behind.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <csignal>
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ocellus/io/json.hpp>
#include <ocellus/io/npy.hpp>
#include <ocellus/io/safetensors.hpp>
#include <ocellus/nn/init.hpp>
#include <ocellus/pipeline/open.hpp>
#include <ocellus/version.hpp>
#include <ocellus/vision/image_file.hpp>

#include "io_support.hpp"

using namespace ocellus;
namespace fs = std::filesystem;
using io_test::contains;
using io_test::content_of;

namespace {

struct Outcome {
  int code = -1;  // -1: ended by a signal
  std::string out, err;

  std::string str() const {
    return "exit code " + std::to_string(code) + "\nstdout: " + out.substr(0, 400) + "\nstderr: " + err.substr(0, 1000);
  }
};

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(at, begin), text.size());
    if (end > begin) parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

constexpr std::int64_t unlimited = -1;

// A folder with models, pictures and data, in which the program runs: commands name files relative to it.
class Workshop {
 public:
  Workshop() {
    ::setenv("OCELLUS_NUM_THREADS", "1", 1);
    manual_seed(1);
    save("segmenter", R"({"model_type": "segformer", "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1],
      "num_attention_heads": [1, 1, 2, 2], "decoder_hidden_size": 16, "id2label": {"0": "ground", "1": "rectangle"}})",
         {.size = 32});
    save("classifier", R"({"model_type": "lenet", "num_channels": 1, "image_size": 12,
      "id2label": {"0": "left", "1": "right"}})",
         {.size = 12, .mean = {0.5f, 0.5f, 0.5f}, .std = {0.5f, 0.5f, 0.5f}});
    save("vit", R"({"model_type": "vit", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
      "intermediate_size": 8, "image_size": 16, "patch_size": 8, "num_labels": 2})",
         {.size = 16});
    save("resnet", R"({"model_type": "resnet", "variant": "resnet18", "depths": [1, 1, 1, 1],
      "hidden_sizes": [4, 4, 8, 8], "id2label": {"0": "left", "1": "right"}})",
         {.size = 16});
    save("detector", R"({"model_type": "yolov8", "variant": "n", "width_multiple": 0.125, "max_channels": 64,
      "id2label": {"0": "left", "1": "right"}})",
         {.size = 32});
    picture("picture.png", {20, 24}, 3, 90);
    picture("second.png", {9, 7}, 1, 200);
    write_npy(*this / "x.npy", Tensor::full({1, 32, 32, 3}, 0.5f));
    write_npy(*this / "grey.npy", Tensor::full({2, 12, 12, 1}, 0.5f));
    for (const char* split : {"train", "val"}) {
      std::string list;
      for (int i = 0; i < 2; ++i) {
        const std::string name = split + std::to_string(i);
        picture("scenes/images/" + name + ".png", {32, 32}, 3, static_cast<std::uint8_t>(40 * i));
        picture("scenes/masks/" + name + ".png", {32, 32}, 1, static_cast<std::uint8_t>(i));
        list += "images/" + name + ".png masks/" + name + ".png\n";
        picture(std::string("sides/") + split + "/left/" + name + ".png", {12, 12}, 1, static_cast<std::uint8_t>(i));
        picture(std::string("sides/") + split + "/right/" + name + ".png", {12, 12}, 1, 200);
      }
      write(std::string("scenes/") + split + ".txt", list);
    }
    write("scenes/classes.txt", "ground\nrectangle\n");
    write("boxes/classes.txt", "left\nright\n");
    for (const std::string split : {"train", "val"}) {
      for (int i = 0; i < 4; ++i) {
        const std::string name = split + "/" + std::to_string(i);
        picture("boxes/images/" + name + ".png", {30, 40}, 3, static_cast<std::uint8_t>(60 * i));
        write("boxes/labels/" + name + ".txt", std::to_string(i % 2) + (i % 2 ? " 0.75" : " 0.25") + " 0.5 0.5 0.8\n");
      }
    }
  }

  std::string operator/(const std::string& name) const { return folder_ / name; }

  void write(const std::string& name, const std::string& text) const {
    fs::create_directories(fs::path(*this / name).parent_path());
    folder_.write(name, text);
  }
  void picture(const std::string& name, Size2 size, Index channels, std::uint8_t value) const {
    fs::create_directories(fs::path(*this / name).parent_path());
    write_png(*this / name, Image(size, channels, value));
  }
  void save(const std::string& name, const std::string& config, const Preprocess& preprocess) const {
    fs::create_directory(*this / name);
    save_model(*this / name, *make_network(Json::parse(config, name)), preprocess);
  }
  // A copy of a folder in which one file is another.
  void variant(const std::string& from, const std::string& to, const std::string& file,
               const std::function<std::string(std::string)>& edit) const {
    fs::copy(*this / from, *this / to, fs::copy_options::recursive);
    write(to + "/" + file, edit(content_of(*this / (to + "/" + file))));
  }

  // Every file by name with what changes when it is written.
  std::map<std::string, std::string> files() const {
    std::map<std::string, std::string> found;
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder_.path())) {
      struct stat info {};
      if (!entry.is_regular_file() || ::stat(entry.path().c_str(), &info) != 0) continue;
      std::string& stamp = found[entry.path().string().substr(folder_.path().size() + 1)];
      for (const auto part : {info.st_ino, static_cast<ino_t>(info.st_size)}) stamp += std::to_string(part) + " ";
      stamp += std::to_string(entry.last_write_time().time_since_epoch().count());
    }
    return found;
  }

  // Runs the program. No file that it writes may grow over `most_bytes`; its standard output goes to the file
  // `out_path` if there is one.
  Outcome run(std::vector<std::string> arguments, std::int64_t most_bytes = unlimited,
              const char* out_path = nullptr) const {
    arguments.insert(arguments.begin(), OCELLUS_PROGRAM);
    std::vector<char*> argv;
    for (std::string& a : arguments) argv.push_back(a.data());
    argv.push_back(nullptr);
    int out[2], err[2];
    REQUIRE(::pipe(out) == 0);
    REQUIRE(::pipe(err) == 0);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      ::alarm(100);  // a program that hangs is a failure, not a test that never ends
      if (most_bytes != unlimited) {
        ::signal(SIGXFSZ, SIG_IGN);
        const rlimit limit{static_cast<rlim_t>(most_bytes), static_cast<rlim_t>(most_bytes)};
        if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) ::_exit(127);
      }
      const int stdout_end = out_path ? ::open(out_path, O_WRONLY) : out[1];
      ::dup2(stdout_end, STDOUT_FILENO);
      ::dup2(err[1], STDERR_FILENO);
      for (int fd : {out[0], out[1], err[0], err[1]}) ::close(fd);
      if (::chdir(folder_.path().c_str()) != 0) ::_exit(127);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
    ::close(out[1]);
    ::close(err[1]);
    Outcome outcome;
    pollfd ends[] = {{out[0], POLLIN, 0}, {err[0], POLLIN, 0}};
    std::string* const texts[] = {&outcome.out, &outcome.err};
    for (int open = 2; open > 0;) {
      if (::poll(ends, 2, -1) < 0) continue;
      for (int i = 0; i < 2; ++i) {
        if (!ends[i].revents) continue;
        char buffer[4096];
        const ssize_t got = ::read(ends[i].fd, buffer, sizeof buffer);
        if (got > 0) {
          texts[i]->append(buffer, static_cast<std::size_t>(got));
        } else {
          ::close(ends[i].fd);
          ends[i].fd = -1;
          --open;
        }
      }
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    if (WIFEXITED(status)) outcome.code = WEXITSTATUS(status);
    return outcome;
  }
  Outcome run(const std::string& command, std::int64_t most_bytes = unlimited) const {
    return run(split(command, ' '), most_bytes);
  }

 private:
  io_test::TemporaryFolder folder_;
};

const Workshop& workshop() {
  static const Workshop instance;
  return instance;
}

const std::string train_classifier = "train --task classify --data sides --model classifier --batch 2 ";
const std::string train_detector = "train --task detect --data boxes --model detector --batch 2 --size 32 ";
const std::string train_segmenter = "train --task segment --data scenes --model segmenter --batch 2 --size 32 ";

// One line and nothing else, from the program itself.
bool is_complaint(const std::string& text) {
  return text.starts_with("ocellus: ") && text.size() > 12 && text.find('\n') == text.size() - 1;
}

struct Failure {
  std::string command;
  std::string says;  // a part of the line on stderr
  int code = 1;
};

// The code, one line on stderr, nothing on stdout, no file made or changed.
void expect(const Workshop& w, const Failure& failure) {
  const std::map<std::string, std::string> before = w.files();
  const Outcome outcome = w.run(failure.command);
  CHECK_MESSAGE(outcome.code == failure.code, failure.command << "\n" << outcome.str());
  CHECK_MESSAGE(outcome.out.empty(), failure.command << "\n" << outcome.str());
  CHECK_MESSAGE(is_complaint(outcome.err), failure.command << "\n" << outcome.str());
  CHECK_MESSAGE(contains(outcome.err, failure.says), failure.command << "\n" << outcome.str());
  CHECK_MESSAGE(w.files() == before, failure.command << " left files behind or changed them");
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  REQUIRE_MESSAGE(at != std::string::npos, "there is no " << from << " in the file to be spoiled");
  return text.replace(at, from.size(), to);
}

// A safetensors file with other tensors.
std::string edited_weights(const std::string& file, const std::function<void(NamedTensors&)>& edit) {
  NamedTensors tensors = read_safetensors(io_test::bytes_of(file), "weights");
  edit(tensors);
  return std::string(to_safetensors_bytes(tensors).text());
}

bool content_differs(const AnyTensor& a, const AnyTensor& b) {
  return std::memcmp(a.raw(), b.raw(), a.spec().bytes()) != 0;
}

NamedTensors without(const NamedTensors& tensors, const std::string& name) {
  NamedTensors rest;
  for (const NamedTensor& t : tensors) {
    if (t.name != name) rest.add(t.name, t.tensor);
  }
  return rest;
}

}  // namespace

TEST_CASE("help and version") {
  const Workshop& w = workshop();
  for (const std::string command :
       {"", "info ", "run ", "classify ", "segment ", "detect ", "train ", "eval ", "bench ", "quantize ", "convert "}) {
    for (const std::string flag : {"--help", "-h", "--version"}) {
      const Outcome outcome = w.run(command + flag);
      CHECK_MESSAGE(outcome.code == 0, command << flag << "\n" << outcome.str());
      CHECK_MESSAGE(outcome.err.empty(), command << flag << "\n" << outcome.str());
      CHECK_MESSAGE(contains(outcome.out, flag == "--version" ? OCELLUS_VERSION : "--help"), command << flag);
    }
  }
}

TEST_CASE("bad usage: exit code 2") {
  const std::string train = "train --task classify --data sides --model classifier --out new ";
  const Failure failures[] = {
      {"", "command"},
      {"enhance", "there is no command 'enhance'"},
      {"--enhance", "there is no option '--enhance'"},
      {"info", "--model is required"},
      {"info --model", "--model"},
      {"info --model segmenter --enhance", "--enhance"},
      {"info --model segmenter surplus", "surplus"},
      {"info --model segmenter --size 0", "--size: a size is HEIGHTxWIDTH in pixels, as 512x512; got '0'"},
      {"info --model segmenter --size 32x", "got '32x'"},
      {"info --model segmenter --size 32x-1", "got '32x-1'"},
      {"info --model segmenter --size 32x32x3", "got '32x32x3'"},
      {"info --model segmenter --size 20000", "got '20000'"},
      {"info --model segmenter --size nan", "got 'nan'"},
      {"info --model nowhere --size x", "got 'x'"},  // before any work
      {"info --model segmenter --threads 0", "--threads"},
      {"info --model segmenter --threads -1", "--threads"},
      {"info --model segmenter --threads 1.5", "--threads"},
      {"info --model segmenter --threads many", "--threads"},
      {"info --model segmenter --threads 99999999999999999999", "--threads"},
      {"info --model segmenter --precision f8", "--precision: f8 not in {f32,bf16,int8}"},
      {"quantize --model segmenter --calibrate scenes --out new --precision bf16", "--precision: bf16 not in {int8}"},
      {"quantize --model segmenter --out new", "--calibrate is required"},
      {"quantize --model segmenter --calibrate scenes", "--out is required"},
      {"quantize --model segmenter --calibrate scenes --out new --pictures 0", "--pictures"},
      {"quantize --model segmenter --calibrate scenes --out new --most-changed nan", "--most-changed"},
      {"info --model segmenter --json=maybe", "--json"},
      {"run --model segmenter --input x.npy", "--output is required"},
      {"run --model segmenter --output new", "--input is required"},
      {"classify --model classifier", "images is required"},
      {"classify --model classifier picture.png --top 0", "--top"},
      {"classify --model classifier picture.png --top -3", "--top"},
      {"segment --model segmenter", "images is required"},
      {"segment --model segmenter scenes/images/val0.png scenes/masks/val0.png --out new",
       "two pictures are named 'val0'"},
      {"detect --model detector", "images is required"},
      {"detect picture.png", "--model is required"},
      {"detect --model detector picture.png --conf 2", "--conf: a number from 0 to below 1 was expected; got '2'"},
      {"detect --model detector picture.png --conf nan", "--conf"},
      {"detect --model detector picture.png --iou -1", "--iou"},
      {"detect --model detector picture.png --max 0", "--max"},
      {"detect --model detector picture.png --format x", "--format: x not in {ocellus,coco}"},
      {"detect --model detector scenes/images/val0.png scenes/masks/val0.png --out new",
       "two pictures are named 'val0'"},
      {"bench --model classifier --batch 0", "--batch"},
      {"bench --model classifier --runs 0", "--runs"},
      {"eval --task caption --model classifier --data sides", "--task"},
      {"eval --model classifier --data sides", "--task is required"},
      {"eval --task classify --model classifier --data sides --batch 0", "--batch"},
      {"train --task classify --data sides --model classifier", "--out is required"},
      {train + "--epochs 0", "--epochs"},
      {train + "--max-steps -5", "--max-steps"},
      {train + "--batch 0", "--batch"},
      {train + "--size big", "--size"},
      {train + "--lr 0", "--lr: a number from 1e-12 to below 1000 was expected; got '0'"},
      {train + "--lr nan", "--lr"},
      {train + "--lr inf", "--lr"},
      {train + "--lr fast", "--lr"},
      {train + "--weight-decay -1", "--weight-decay"},
      {train + "--clip nan", "--clip"},
      {train + "--ema 1", "--ema"},
      {train + "--label-smoothing nan", "--label-smoothing"},
      {train + "--dice -1", "--dice"},
      {train + "--warmup -1", "--warmup"},
      {train + "--checkpoint-every -1", "--checkpoint-every"},
      {train + "--max-minutes soon", "--max-minutes"},
      {train + "--max-minutes 1e999", "--max-minutes"},
      {train + "--seed -1", "--seed"},
      {train + "--seed 0.5", "--seed"},
      {train + "--ignore 256", "--ignore"},
      {train + "--schedule never", "--schedule"},
      {train + "--class-weights fair", "--class-weights"},
      {train + "--mosaic 1.01", "--mosaic: a number from 0 to 1 was expected; got '1.01'"},
      {train + "--mixup -1", "--mixup"},
      {train + "--scale 1", "--scale"},
      {train + "--vertical-flip nan", "--vertical-flip"},
      {train + "--whole-epochs -1", "--whole-epochs"},
      {train + "--whole-epochs 1", "--whole-epochs is for --task detect; it does nothing for --task "},
      {train + "--max-steps 5 --whole-epochs 1", "--max-steps excludes --whole-epochs"},
      {"train --task detect --data sides --model yolov8n --out new --dice 1", "--dice is for --task segment or classify"},
      {"detect --model detector --format coco --explain picture.png", "--explain has no place in COCO's format"},
      {"eval --task detect --model classifier --data sides --batch 2", "--batch is for --task classify"},
      {"eval --task classify --model classifier --data sides --prior train", "--prior is for --task segment"},
      {train + "--dtype f8", "--dtype"},
      {train + "--precision bf16", "--precision: bf16 not in {f32}"},
      {"train --task classify --data sides --model lenet --out new --size 12x16",
       "pictures must be square; got (12, 16)"},
      {"train --task segment --data unnamed --model segformer-b0 --out new", "the names of the classes are not known"},
      {"convert classifier/model.safetensors", "out is required"},
      {"convert classifier/model.safetensors new.npz", "convert writes .safetensors; got 'new.npz'"},
      {"convert classifier/model.safetensors new.safetensors --dtype f8", "--dtype"}};
  const Workshop& w = workshop();
  w.write("unnamed/train.txt", "a b\n");
  for (Failure failure : failures) {
    failure.code = 2;
    expect(w, failure);
  }
  const Outcome nameless =
      w.run({"train", "--task", "classify", "--data", "sides", "--model", "classifier", "--out", ""});
  CHECK_MESSAGE(nameless.code == 2, nameless.str());
  CHECK_MESSAGE(contains(nameless.err, "--out: a path was expected"), nameless.str());
  for (const char* variable : {"OCELLUS_NUM_THREADS", "OCELLUS_ISA"}) {
    const char* held = std::getenv(variable);
    const std::string before = held ? held : "";
    ::setenv(variable, "many", 1);
    expect(w, {"classify --model classifier picture.png", variable, 2});
    held ? ::setenv(variable, before.c_str(), 1) : ::unsetenv(variable);
  }
}

TEST_CASE("a model that cannot be opened") {
  const Workshop& w = workshop();
  for (const char* command :
       {"info", "run --input x.npy --output new", "classify picture.png", "segment picture.png --out new",
        "detect picture.png --out new", "eval --task detect --data boxes --out new",
        "train --task classify --data sides --out new", "eval --task classify --data sides", "bench",
        "quantize --calibrate sides --out new"}) {
    expect(w, {std::string(command) + " --model nowhere", "nowhere/config.json: cannot be opened"});
    expect(w, {std::string(command) + " --model picture.png", "picture.png/config.json: cannot be opened"});
  }
  for (const char* file : {"config.json", "model.safetensors"}) {
    const std::string name = std::string("without_") + file;
    w.variant("classifier", name, file, [](std::string text) { return text; });
    fs::remove(w / (name + "/" + file));
    expect(w, {"info --model " + name, name + "/" + file + ": cannot be opened"});
  }
  w.variant("classifier", "pickled", "pytorch_model.bin", [](const std::string&) { return std::string("PK"); });
  fs::remove(w / "pickled/model.safetensors");
  expect(w, {"info --model pickled", "pickled/pytorch_model.bin: is no PyTorch file"});

  struct Spoiled {
    const char* model;
    const char* file;
    std::function<std::string(std::string)> edit;
    const char* says;
  };
  const auto text = [](const char* from, const char* to) {
    return [from, to](const std::string& file) { return replaced(file, from, to); };
  };
  const auto bytes = [](const std::string& content) { return [content](const std::string&) { return content; }; };
  const auto weights = [](const std::function<void(NamedTensors&)>& edit) {
    return [edit](const std::string& file) { return edited_weights(file, edit); };
  };
  const auto flipped = [](std::size_t at, int bit) {
    return [at, bit](std::string file) {
      file[at] = static_cast<char>(file[at] ^ (1 << bit));
      return file;
    };
  };
  // A letterbox instead of the size that pictures are stretched to.
  const auto letterbox = [](const char* height, const char* width) {
    return [height, width](const std::string& file) {
      const std::string sized = replaced(replaced(file, "\"height\": 32", height), "\"width\": 32", width);
      return replaced(sized, "\"resample\"", "\"letterbox\": {}, \"resample\"");
    };
  };
  const Spoiled list[] = {
      {"classifier", "config.json", bytes(""), "config.json"},
      {"classifier", "config.json", bytes("{\"model_type\": \"lenet\""), "config.json"},
      {"classifier", "config.json", bytes("model_type: lenet"), "config.json"},
      {"classifier", "config.json", bytes("[]"), "config.json"},
      {"classifier", "config.json", bytes("{}"), "model_type"},
      {"classifier", "config.json", text("\"lenet\"", "7"), "config.json: model_type: expected a string"},
      {"classifier", "config.json", text("\"lenet\"", "\"resnet\\u001b[2J\\n\""),
       "model_type \"resnet?[2J; \" is unknown"},
      {"classifier", "config.json", text("12", "NaN"), "config.json"},
      {"classifier", "config.json", text("12", "1e999"), "config.json"},
      {"classifier", "config.json", text("12", "-12"), "image_size: must lie between"},
      {"classifier", "config.json", text("12", "12.5"), "image_size: expected an integer"},
      {"classifier", "config.json", text("12", "\"12\""), "image_size: expected an integer"},
      {"classifier", "config.json", text("12", "99999999999999999999"), "image_size"},
      {"classifier", "config.json", text("12", "16"), "fc1.weight: the file has (120, 16), the model needs (120, 64)"},
      {"classifier", "config.json", text("12", "4096"), "would make it too large"},
      {"classifier", "config.json", text("\"1\": \"right\"", "\"2\": \"right\""), "id2label"},
      {"classifier", "config.json", text("\"left\"", "null"), "id2label"},
      {"classifier", "config.json", text("\"num_labels\": 2", "\"num_labels\": 3"),
       "config.json: num_labels: is 3, but id2label names 2 classes"},
      {"segmenter", "config.json", text("[8, 8, 16, 16]", "[8, 8, 16, NaN]"), "config.json"},
      {"segmenter", "config.json", text("[8, 8, 16, 16]", "[8, 8, 16]"),
       "hidden_sizes must have num_encoder_blocks = 4"},
      {"segmenter", "config.json", text("[8, 8, 16, 16]", "[8, 8, 15, 16]"),
       "must be a multiple of num_attention_heads"},
      {"segmenter", "config.json", text("[8, 8, 16, 16]", "[65536, 65536, 65536, 65536]"), "would make it too large"},
      {"segmenter", "config.json", text("[1, 1, 1, 1]", "[1, 1, 1, 2]"), "missing in the file (18)"},
      {"segmenter", "config.json", text("[1, 1, 1, 1]", "[1000, 1000, 1000, 1000]"), "would make it too large"},
      {"segmenter", "config.json", text("[4, 4, 4, 4]", "[4, 4, 4, 1e999]"), "config.json"},
      {"segmenter", "config.json", text("[4, 4, 4, 4]", "[4, 4, 4, -4]"), "mlp_ratios: must lie in (0, 64]"},
      {"resnet", "config.json", text("\"resnet18\"", "\"resnet\""), "variant: \"resnet\" is not a variant that the library has"},
      {"resnet", "config.json", text("\"resnet18\"", "\"resnet50\""), "of another shape or type"},
      {"resnet", "config.json", text("[4, 4, 8, 8]", "[4, 4, 8, 65536]"), "would make it too large"},
      {"vit", "config.json", text("\"patch_size\": 8", "\"patch_size\": 32"), "image_size: must not be smaller"},
      {"vit", "config.json", text("\"hidden_size\": 8", "\"hidden_size\": 65536"), "would make it too large"},
      {"classifier", "model.safetensors", bytes(""), "model.safetensors"},
      {"classifier", "model.safetensors", bytes("PK\x03\x04 rather than weights"), "model.safetensors"},
      {"classifier", "model.safetensors", [](const std::string& f) { return f.substr(0, 5); }, "model.safetensors"},
      {"classifier", "model.safetensors", [](const std::string& f) { return f.substr(0, 200); }, "model.safetensors"},
      {"classifier", "model.safetensors", [](const std::string& f) { return f.substr(0, f.size() - 1); },
       "model.safetensors"},
      {"classifier", "model.safetensors", [](const std::string& f) { return f + "x"; }, "model.safetensors"},
      {"classifier", "model.safetensors", flipped(0, 3), "model.safetensors"},   // the header's length
      {"classifier", "model.safetensors", flipped(7, 7), "model.safetensors"},   // likewise, now enormous
      {"classifier", "model.safetensors", flipped(8, 1), "model.safetensors"},   // '{'
      {"classifier", "model.safetensors", flipped(10, 6), "model.safetensors"},  // in the first key
      {"classifier", "model.safetensors", weights([](NamedTensors& t) { t = without(t, "fc2.bias"); }),
       "missing in the file (1): fc2.bias"},
      {"classifier", "model.safetensors", weights([](NamedTensors& t) {
         t.add("fc9.bias", Tensor({2}));
         t.add("fc9.we\niight", Tensor({2}));
       }),
       "unexpected in the file (2): fc9.bias, fc9.we"},
      {"classifier", "model.safetensors", weights([](NamedTensors& t) {
         t = without(t, "fc2.bias");
         t.add("fc2.bais", Tensor({84}));
       }),
       "missing in the file (1): fc2.bias   (the file has fc2.bais); unexpected in the file (1): fc2.bais"},
      {"classifier", "model.safetensors", weights([](NamedTensors& t) {
         t = without(t, "fc2.bias");
         t.add("fc2.bias", Tensor({83}));
       }),
       "fc2.bias: the file has (83), the model needs (84)"},
      {"classifier", "preprocessor_config.json", bytes(""), "preprocessor_config.json: is empty"},
      {"classifier", "preprocessor_config.json", text("\"width\": 12", "\"width\": NaN"), "preprocessor_config.json"},
      {"classifier", "preprocessor_config.json", text("\"width\": 12", "\"width\": 0"),
       "size.width: must lie between 1 and 16384"},
      {"classifier", "preprocessor_config.json", text("\"image_std\"", "\"image_std\": [0], \"before\""), "image_std"},
      {"classifier", "preprocessor_config.json", text("\"height\": 12,\n    \"width\": 12", "\"height\": 16384,\n    \"width\": 6104"),
       "preprocessor_config.json: asks for pictures of (16384, 6104) pixels; at most 100000000 are made"},
      {"detector", "preprocessor_config.json", letterbox("\"height\": 100", "\"width\": 160"),
       "preprocessor_config.json: size: yolov8 takes heights and widths that are multiples of 32; got 100x160, the nearest are 96x160 and 128x160"},
      {"detector", "preprocessor_config.json", text("\"height\": 32", "\"height\": 31"), "got 31x32, the nearest is 32x32"},
      {"detector", "preprocessor_config.json", letterbox("\"height\": 16384", "\"width\": 16384"),
       "preprocessor_config.json: asks for pictures of (16384, 16384) pixels; at most 100000000 are made"},
      {"detector", "preprocessor_config.json", text("\"do_center_crop\": false", "\"do_center_crop\": true, \"crop_size\": 32"),
       "preprocessor_config.json: do_center_crop: a detector's boxes need the whole picture; set it to false"}};
  int number = 0;
  for (const Spoiled& spoiled : list) {
    const std::string name = "spoiled" + std::to_string(number++);
    w.variant(spoiled.model, name, spoiled.file, spoiled.edit);
    const std::string task =
        spoiled.model == std::string("segmenter") ? "segment picture.png --out new" : "classify picture.png";
    expect(w, {task + " --model " + name, spoiled.says});
  }
}

TEST_CASE("a picture that cannot be read") {
  const Workshop& w = workshop();
  const std::string png = content_of(w / "picture.png");
  fs::create_directory(w / "folder.png");
  w.write("empty.png", "");
  w.write("text.png", "a picture of a cat\n");
  w.write("truncated.png", png.substr(0, png.size() / 2));
  w.write("flipped.png", png.substr(0, 30) + static_cast<char>(png[30] ^ 1) + png.substr(31));
  w.write("other.gif", "GIF89a\x01\x02\x01\x02");
  const std::string jpeg = content_of(OCELLUS_TEST_DIR "/data/images/jpeg/jpg-size-33x33.jpg");
  w.write("truncated.jpg", jpeg.substr(0, jpeg.size() / 2));
  const std::pair<const char*, const char*> pictures[] = {{"nowhere.png", "cannot be opened"},
                                                          {"folder.png", "this is a folder"},
                                                          {"empty.png", "this file is empty"},
                                                          {"text.png", "a PNG, JPEG or BMP picture was expected"},
                                                          {"truncated.png", "the picture is truncated"},
                                                          {"flipped.png", "a chunk does not match its checksum"},
                                                          {"other.gif", "GIF"},
                                                          {"truncated.jpg", "the picture is truncated"}};
  for (const auto& [picture, says] : pictures) {
    expect(w, {std::string("classify --model classifier --json ") + picture, std::string(picture)});
    expect(w, {std::string("segment --model segmenter --out new --json ") + picture, says});
    expect(w, {std::string("detect --model detector --json ") + picture, says});
  }
  expect(w, {"segment --model segmenter picture.png --out picture.png/new",
             "picture.png/new: the directory cannot be made"});
  expect(w, {"segment --model segmenter picture.png --out picture.png", "picture.png: the directory cannot be made"});
  expect(w,
         {"segment --model classifier picture.png --out new", "classifier is a lenet model for the task 'classify'"});
  expect(w, {"classify --model segmenter picture.png", "segmenter is a segformer model for the task 'segment'"});
  expect(w, {"classify --model detector picture.png", "detector is a yolov8 model for the task 'detect'"});
  expect(w, {"detect --model segmenter picture.png --out new", "segmenter is a segformer model for the task 'segment'"});
  expect(w, {"detect --model detector --out picture.png picture.png", "picture.png: the directory cannot be made"});
  expect(w, {"quantize --model detector --calibrate sides --out new", "sides: holds no pictures; a detector is calibrated with a folder of them"});

  // What was found before the picture that cannot be read stays, whole.
  const Outcome outcome = w.run("classify --model classifier --json picture.png text.png second.png");
  CHECK_MESSAGE(outcome.code == 1, outcome.str());
  CHECK_MESSAGE(is_complaint(outcome.err), outcome.str());
  CHECK(Json::parse(outcome.out, "stdout").get<std::string>("image") == "picture.png");
}

TEST_CASE("arrays that do not fit the model, and outputs that cannot be written") {
  const Workshop& w = workshop();
  const std::string npy = content_of(w / "x.npy");
  write_npy(w / "rank.npy", Tensor({32, 32, 3}));
  write_npy(w / "channels.npy", Tensor({1, 32, 32, 4}));
  write_npy(w / "double.npy", BasicTensor<double>({1, 32, 32, 3}));
  write_npy(w / "bytes.npy", BasicTensor<std::uint8_t>({1, 32, 32, 3}));
  write_npy(w / "none.npy", Tensor(Shape{0, 32, 32, 3}));
  write_npy(w / "flat.npy", Tensor(Shape{1, 32, 0, 3}));
  write_npy(w / "small.npy", Tensor({1, 4, 4, 3}));
  write_npy(w / "grey_large.npy", Tensor({1, 32, 32, 1}));
  w.write("truncated.npy", npy.substr(0, npy.size() - 1));
  w.write("header.npy", replaced(npy, "'fortran_order'", "'portran_order'"));
  w.write("enormous.npy", replaced(npy, "(1, 32, 32, 3), }       ", "(99999999, 32, 32, 3), }"));
  w.write("empty.npy", "");
  const std::string rule = "must hold preprocessed pictures, float32 (N, H, W, 3); got ";
  const Failure failures[] = {{"segmenter --input nowhere.npy", "nowhere.npy: cannot be opened"},
                              {"segmenter --input scenes", "this is a folder"},
                              {"segmenter --input picture.png", "is no .npy file"},
                              {"segmenter --input empty.npy", "empty.npy"},
                              {"segmenter --input truncated.npy", "truncated.npy"},
                              {"segmenter --input header.npy", "header.npy"},
                              {"segmenter --input enormous.npy", "needs 1228799987712 bytes of data"},
                              {"segmenter --input rank.npy", rule + "f32 (32, 32, 3)"},
                              {"segmenter --input channels.npy", rule + "f32 (1, 32, 32, 4)"},
                              {"segmenter --input double.npy", rule + "f64 (1, 32, 32, 3)"},
                              {"segmenter --input bytes.npy", rule + "u8 (1, 32, 32, 3)"},
                              {"segmenter --input none.npy", rule + "f32 (0, 32, 32, 3)"},
                              {"segmenter --input flat.npy", rule + "f32 (1, 32, 0, 3)"},
                              {"segmenter --input small.npy", "the kernel must fit"},
                              {"vit --input small.npy", "the kernel must fit"},
                              {"classifier --input grey_large.npy", "fc1"}};
  for (const Failure& failure : failures) expect(w, {"run --output new --model " + failure.command, failure.says});
  expect(w, {"run --model segmenter --input x.npy --output picture.png/new",
             "picture.png/new: the directory cannot be made"});
  expect(w, {"run --model segmenter --input x.npy --output picture.png", "picture.png: the directory cannot be made"});
  expect(w, {"info --model classifier --size 32", "fc1"});
  expect(w, {"bench --model segmenter --size 4", "the kernel must fit"});
}

TEST_CASE("convert reads PyTorch's files") {
  const Workshop& w = workshop();
  const std::string golden = OCELLUS_TEST_DIR "/golden/torch/";
  const NamedTensors expected = read_safetensors(golden + "expected.safetensors");
  for (const std::string name : {"types.pth", "model.pt", "wrapped_protocol5.bin"}) {
    CHECK(w.run("convert " + golden + name + " from_torch.safetensors").code == 0);
    const NamedTensors tensors = read_safetensors(w / "from_torch.safetensors");
    CHECK(!tensors.empty());
    for (const NamedTensor& t : tensors) CHECK(io_test::same(t.tensor, expected.at(name + "/" + t.name)));
  }
  fs::remove(w / "from_torch.safetensors");
}

TEST_CASE("convert refuses what it does not read") {
  const Workshop& w = workshop();
  const std::string advice = "convert reads .safetensors, .npz and PyTorch's .pth, .pt, .bin and .th";
  w.write("weights.pth", "PK");
  w.write("archive.npz", "PK");
  w.variant("classifier", "damaged", "model.safetensors", [](const std::string& f) { return f.substr(0, 100); });
  expect(w, {"convert weights.pth new.safetensors", "weights.pth: is no PyTorch file"});
  expect(w, {"convert nowhere/pytorch_model.bin new.safetensors", "nowhere/pytorch_model.bin: cannot be opened"});
  expect(w, {"convert picture.png new.safetensors", advice});
  expect(w, {"convert nowhere.safetensors new.safetensors", "nowhere.safetensors: cannot be opened"});
  expect(w, {"convert damaged/model.safetensors new.safetensors", "damaged/model.safetensors"});
  expect(w, {"convert archive.npz new.safetensors", "archive.npz"});
  expect(w, {"convert classifier/model.safetensors picture.png/new.safetensors",
             "picture.png/new.safetensors: cannot be written"});
  expect(w, {"convert classifier/model.safetensors nowhere/new.safetensors",
             "nowhere/new.safetensors: cannot be written"});
  fs::create_directory(w / "taken.safetensors");
  expect(w, {"convert classifier/model.safetensors taken.safetensors", "this is a folder"});
}

TEST_CASE("data that cannot be used") {
  const Workshop& w = workshop();
  fs::create_directory(w / "nothing");
  fs::create_directories(w / "hollow/train/left");
  fs::create_directories(w / "hollow/train/right");
  const auto scenes = [&](const std::string& name, const std::string& file, const std::string& content) {
    w.variant("scenes", name, file, [&](const std::string&) { return content; });
  };
  scenes("unlisted", "train.txt", "\n\n");
  scenes("half", "train.txt", "images/train0.png\n");
  scenes("absent", "train.txt", "images/train7.png masks/train0.png\n");
  scenes("outside", "train.txt", "../picture.png masks/train0.png\n");
  scenes("text", "images/train1.png", "not a picture");
  scenes("uneven", "masks/train1.png", content_of(w / "second.png"));
  w.variant("scenes", "wrong_id", "masks/train1.png", [](const std::string& f) { return f; });
  Image mask({32, 32}, 1, 1);
  mask.writable()[5 * 32 + 9] = 2;
  write_png(w / "wrong_id/masks/train1.png", mask);
  w.variant("sides", "stranger", "train/middle/0.png",
            [&](const std::string&) { return content_of(w / "second.png"); });
  w.variant("sides", "broken", "train/left/train0.png", [](const std::string&) { return std::string(); });

  const auto boxes = [&](const std::string& name, const std::string& file, const std::string& content) {
    w.variant("boxes", name, file, [&](const std::string&) { return content; });
  };
  boxes("third_class", "labels/train/1.txt", "2 0.5 0.5 0.5 0.5\n");
  boxes("pixels", "labels/train/1.txt", "0 20 20 10 10\n");
  boxes("short", "labels/train/1.txt", "0 0.5 0.5\n");
  boxes("objectless", "classes.txt", "left\nright\n");
  for (const char* split : {"train", "val"}) fs::remove_all(w / (std::string("objectless/labels/") + split));
  for (const char* split : {"train", "val"}) fs::create_directory(w / (std::string("objectless/labels/") + split));

  const std::string segment = " --task segment --model segmenter --data ",
                    classify = " --task classify --model classifier --data ",
                    detect = " --task detect --model detector --data ";
  const Failure failures[] = {
      {segment + "nowhere", "nowhere: is no folder"},
      {segment + "picture.png", "picture.png: is no folder"},
      {segment + "nothing", "nothing: no data for segmentation; expected train.txt"},
      {segment + "sides", "sides: no data for segmentation"},
      {segment + "unlisted", "unlisted/train.txt: names no pictures"},
      {segment + "half", "half/train.txt: line 1: expected \"image label\""},
      {segment + "absent", "line 1: \"images/train7.png\" is no file"},
      {segment + "outside", "leaves the folder of the data set"},
      {segment + "text", "text/images/train1.png"},
      {segment + "uneven", "uneven/masks/train1.png: the mask has (height, width) (9, 7)"},
      {segment + "wrong_id", "wrong_id/masks/train1.png: pixel (5, 9) has the class id 2; there are 2 classes"},
      {classify + "nowhere", "nowhere: is no folder"},
      {classify + "nothing", "nothing: no data for classification"},
      {classify + "scenes", "scenes/images: is no class of the model"},
      {classify + "hollow", "hollow"},
      {classify + "stranger", "stranger/train/middle: is no class of the model"},
      {classify + "broken", "broken/train/left/train0.png"},
      {detect + "nowhere", "nowhere: is no folder"},
      {detect + "sides", "sides: no data for detection"},
      {detect + "third_class", "third_class/labels/train/1.txt: line 1: the class is 2; there are 2 classes"},
      {detect + "pixels", "pixels/labels/train/1.txt: line 1: 20 is no share of the picture"},
      {detect + "short", "short/labels/train/1.txt: line 1: expected"},
      {" --task detect --model segmenter --data boxes", "segmenter is a segformer model for the task 'segment'"},
      {" --task segment --model detector --data scenes", "detector is a yolov8 model for the task 'detect'"},
      {" --task classify --model segmenter --data sides", "segmenter is a segformer model for the task 'segment'"},
      {" --task segment --model classifier --data scenes", "classifier is a lenet model for the task 'classify'"}};
  for (const Failure& failure : failures) {
    expect(w, {"train --out new --max-steps 2 --batch 2 --size 32" + failure.command, failure.says});
    expect(w, {"eval --split train" + failure.command, failure.says});
  }
  const std::string train = "train --out new --max-steps 2 --batch 2";
  expect(w, {train + detect + "objectless", "none of the 4 pictures has an object to learn from", 2});
  expect(w, {train + detect + "boxes --classes left,middle", "detector: class 1 is 'right', --classes says 'middle'"});
  const std::string sizes = "--size: yolov8 takes heights and widths that are multiples of 32; got ";
  expect(w, {train + " --task detect --model detector --data nowhere --size 31", sizes + "31x31, the nearest is 32x32", 2});
  expect(w, {train + " --task detect --model yolov8n --data nowhere --size 40x96", sizes + "40x96, the nearest are 32x96 and 64x96", 2});
  expect(w, {train + " --task detect --model lenet --data nowhere --size 32", "lenet is a lenet model for the task 'classify'"});
  for (const char* command : {"info", "bench"}) {
    expect(w, {std::string(command) + " --model detector --size 100x64", sizes + "100x64, the nearest are 96x64 and 128x64", 2});
  }
  expect(w, {train + segment + "scenes --classes ground", "segmenter has 2 classes, --classes names 1"});
  expect(w, {train + segment + "scenes --classes a,b,c", "segmenter has 2 classes, --classes names 3"});
  expect(w,
         {train + classify + "sides --classes left,middle", "classifier: class 1 is 'right', --classes says 'middle'"});
  expect(w, {train + " --task segment --model segformer-b0 --data scenes --classes ground",
             "scenes/classes.txt: its names \"ground\", \"rectangle\" say what the numbers of the data mean, the classes are \"ground\" (a "
             "model's labels or --classes): \"rectangle\" is none of them"});
  w.variant("boxes", "turned", "classes.txt", [](const std::string&) { return "right\nleft\n"; });
  expect(w, {train + " --task detect --model yolov8n --data turned --classes left,middle", "\"right\" is none of them"});
  expect(w, {train + " --task classify --model lenet --data sides --classes left",
             "train/right: is no class of the model"});
  expect(w, {train + " --task classify --model lenet --data sides --size 10", "image_size must be at least 12"});
  expect(w, {"train --out picture.png/new --max-steps 2 --batch 2" + classify + "sides", "picture.png/new"});
  expect(w, {"train --out picture.png --max-steps 2 --batch 2" + classify + "sides", "picture.png"});
  const std::string quantize = "quantize --out new --calibrate ";
  expect(w, {quantize + "nowhere --model classifier", "nowhere: is no folder"});
  expect(w, {quantize + "picture.png --model classifier", "picture.png: is no folder"});
  expect(w, {quantize + "nothing --model classifier", "nothing: no data for classification"});
  expect(w, {quantize + "nothing --model segmenter", "nothing: no data for segmentation"});
  expect(w, {quantize + "scenes --split other --model segmenter", "expected other.txt"});
  expect(w, {quantize + "broken/train/left --model classifier", "broken/train/left/train0.png"});
  expect(w, {"quantize --out picture.png --calibrate scenes --model segmenter", "picture.png: the directory cannot be made"});
  expect(w, {"eval --split other" + segment + "scenes", "expected other.txt"});
  expect(w, {"eval --split other" + detect + "boxes", "boxes: no data for detection"});
  expect(w, {"eval --split train" + segment + "scenes --prior other", "expected other.txt"});
}

TEST_CASE("a run that cannot be resumed") {
  const Workshop& w = workshop();
  const std::string train = train_classifier + "--log-every 1 --max-steps 4 --checkpoint-every 2 ";
  REQUIRE(w.run(train + "--out run").code == 0);
  const std::string first = "checkpoints/checkpoint-00000002.safetensors",
                    second = "checkpoints/checkpoint-00000004.safetensors";
  expect(w, {train + "--out run", "resume it (--resume) or choose another folder", 2});
  expect(w, {train + "--out run --resume --lr 0.5", "was started with other settings: learning_rate was 0.001, now it is 0.5"});
  expect(w, {"train --task segment --data scenes --model segmenter --out run --resume",
             "was started with other settings"});
  const auto flip = [](std::string f) {
    f.back() = static_cast<char>(f.back() ^ 1);
    return f;
  };
  w.variant("run", "flipped", second, flip);
  fs::remove(w / ("flipped/" + first));
  expect(w, {train + "--out flipped --resume", "checkpoint-00000004.safetensors: is damaged: its checksum is"});
  w.variant("run", "both", second, flip);
  w.write("both/" + first, "");
  expect(w, {train + "--out both --resume", "checkpoint-00000004.safetensors: is damaged: its checksum is"});
  w.variant("run", "weights", second, [&](const std::string&) { return content_of(w / "run/model.safetensors"); });
  fs::remove(w / ("weights/" + first));
  expect(w, {train + "--out weights --resume", "is no checkpoint of a training run"});
  w.variant("run", "log", "log.jsonl", [](const std::string& f) { return "{\"step\": 1\n" + f; });
  expect(w, {train + "--out log --resume", "log/log.jsonl, line 1"});

  // With a whole one before it the run goes on, and says so.
  w.variant("run", "fallback", second, flip);
  const Outcome outcome = w.run(train + "--out fallback --resume --json");
  CHECK_MESSAGE(outcome.code == 0, outcome.str());
  CHECK_MESSAGE((is_complaint(outcome.err) && contains(outcome.err, "ocellus: warning: ")), outcome.str());
  CHECK(content_of(w / "fallback/model.safetensors") == content_of(w / "run/model.safetensors"));
}

TEST_CASE("a model that is trained further keeps its classes and their order") {
  const Workshop& w = workshop();
  w.variant("classifier", "other_order", "config.json", [](const std::string& text) {
    return replaced(replaced(text, "\"0\": \"left\"", "\"0\": \"right\""), "\"1\": \"right\"", "\"1\": \"left\"");
  });
  const Outcome trained =
      w.run("train --task classify --data sides --model other_order --out ordered --max-steps 40 --lr 3e-3");
  REQUIRE_MESSAGE(trained.code == 0, trained.str());
  const Outcome judged = w.run("eval --task classify --data sides --model ordered --json");
  REQUIRE_MESSAGE(judged.code == 0, judged.str());
  CHECK_MESSAGE(Json::parse(judged.out, "stdout").at("metrics").get<double>("accuracy") == 1, judged.str());

  // The value that the model ignores may stand in its masks.
  w.variant("scenes", "with_void", "masks/train1.png", [](const std::string& f) { return f; });
  w.picture("with_void/masks/train1.png", {32, 32}, 1, 255);
  const Outcome ignored =
      w.run("train --task segment --data with_void --model segmenter --out void --max-steps 1 --batch 2 --size 32");
  CHECK_MESSAGE(ignored.code == 0, ignored.str());
}

TEST_CASE("running statistics are trained, saved, resumed and used") {
  const Workshop& w = workshop();
  const std::string train =
      "train --task classify --data sides --model resnet --batch 4 --size 16 --lr 3e-3 --max-steps 60 --checkpoint-every 30 ";
  const Outcome trained = w.run(train + "--out statistics");
  REQUIRE_MESSAGE(trained.code == 0, trained.str());
  const NamedTensors before = read_safetensors(w / "resnet/model.safetensors"),
                     after = read_safetensors(w / "statistics/model.safetensors");
  for (const char* key : {"bn1.running_mean", "layer2.0.downsample.1.running_var"}) {
    CHECK_MESSAGE(content_differs(before.at(key), after.at(key)), key);
  }
  CHECK(BasicTensor<std::int64_t>(after.at("bn1.num_batches_tracked")).item() == 60);
  const Outcome judged = w.run("eval --task classify --model statistics --data sides --json");
  REQUIRE_MESSAGE(judged.code == 0, judged.str());
  CHECK_MESSAGE(Json::parse(judged.out, "stdout").at("metrics").get<double>("accuracy") == 1, judged.str());

  w.variant("statistics", "interrupted", "model.safetensors", [](const std::string&) { return std::string(); });
  fs::remove(w / "interrupted/checkpoints/checkpoint-00000060.safetensors");
  const Outcome resumed = w.run(train + "--out interrupted --resume");
  REQUIRE_MESSAGE(resumed.code == 0, resumed.str());
  CHECK(content_of(w / "interrupted/model.safetensors") == content_of(w / "statistics/model.safetensors"));
}

namespace {

// Throws unless the file is whole.
void read_whole(const std::string& path) {
  const std::string text = content_of(path);
  if (path.ends_with(".safetensors")) {
    read_safetensors(path);
  } else if (path.ends_with(".npy")) {
    read_npy(path);
  } else if (path.ends_with(".png")) {
    read_image(path);
  } else if (path.ends_with(".json")) {
    Json::parse(text, path);
  } else if (path.ends_with(".jsonl")) {
    if (!text.ends_with('\n')) throw FileError(path, "the last line is cut off");
    for (const std::string& line : split(text, '\n')) Json::parse(line, path);
  } else if (!path.ends_with(".svg") || !text.ends_with("</svg>\n")) {
    throw FileError(path, "is no file that the program should leave");
  }
}

}  // namespace

namespace {

// Detectors whose boxes pass: every place is surely of class 1 and perhaps of class 0, boxes of some cells around it.
void certain_detector(const Workshop& w, const std::string& name) {
  w.variant("detector", name, "model.safetensors", [](const std::string& file) {
    return edited_weights(file, [](NamedTensors& tensors) {
      for (const char* level : {"0", "1", "2"}) {
        const Tensor classes(tensors.at(std::string("model.22.cv3.") + level + ".2.bias"));
        classes[0] = -0.5f;
        classes[1] = 1;
        const Tensor boxes(tensors.at(std::string("model.22.cv2.") + level + ".2.bias"));
        for (Index i = 0; i < boxes.numel(); ++i) boxes[i] = i % 16 == 1 ? 5.0f : 0.0f;
      }
    });
  });
}

// Objects in order, of known classes, inside of the picture.
void check_objects(const Json& objects, Size2 size, const std::string& told) {
  double last = 1;
  for (Index i = 0; i < objects.size(); ++i) {
    const Json o = objects.at(i), box = o.at("box");
    CHECK_MESSAGE(o.get<std::string>("name") == (o.get<Index>("class") ? "right" : "left"), told);
    const double score = o.get<double>("score");
    CHECK_MESSAGE((score <= last && score > 0), told);
    last = score;
    REQUIRE_MESSAGE(box.size() == 4, told);
    const double x1 = box.at(0).get<double>(), y1 = box.at(1).get<double>(), x2 = box.at(2).get<double>(), y2 = box.at(3).get<double>();
    CHECK_MESSAGE((0 <= x1 && x1 <= x2 && x2 <= static_cast<double>(size.w)), told);
    CHECK_MESSAGE((0 <= y1 && y1 <= y2 && y2 <= static_cast<double>(size.h)), told);
  }
}

}  // namespace

TEST_CASE("detect: objects, files, what was suppressed, COCO's format") {
  const Workshop& w = workshop();
  certain_detector(w, "certain");
  const auto run = [&](const std::string& options) {
    const Outcome outcome = w.run("detect --model certain " + options);
    REQUIRE_MESSAGE(outcome.code == 0, options << "\n" << outcome.str());
    CHECK_MESSAGE(outcome.err.empty(), options << "\n" << outcome.str());
    return outcome.out;
  };
  const auto objects = [&](const std::string& options) { return Json::parse(run(options + " --json picture.png"), options).at("objects").size(); };

  // 32 x 32 pixels have 16 + 4 + 1 places.
  const std::string usual = run("--json picture.png");
  const Json answer = Json::parse(usual, "stdout");
  CHECK(answer.get<std::string>("schema") == "ocellus.detect/1");
  CHECK(answer.get<std::string>("image") == "picture.png");
  CHECK(answer.at("size").at(0).get<Index>() == 20);
  CHECK(answer.at("size").at(1).get<Index>() == 24);
  REQUIRE(answer.at("objects").size() > 2);
  CHECK(answer.at("objects").at(0).get<double>("score") == doctest::Approx(0.73).epsilon(0.05));
  CHECK(!answer.has("suppressed"));
  CHECK(answer.at("files").size() == 0);
  CHECK(answer.at("ms").get<double>("model") > 0);
  check_objects(answer.at("objects"), {20, 24}, usual);
  CHECK(objects("--conf 0.9") == 0);
  CHECK(objects("--iou 0.05") < answer.at("objects").size());
  CHECK(objects("--iou 1") == 21);
  CHECK(objects("--max 2") == 2);
  const std::string plain = run("picture.png");
  CHECK_MESSAGE(static_cast<Index>(split(plain, '\n').size()) == 1 + answer.at("objects").size(), plain);
  CHECK_MESSAGE(plain.starts_with("picture.png (24 x 20), "), plain);
  CHECK_MESSAGE(contains(plain, "  0.7"), plain);
  CHECK_MESSAGE(contains(plain, "  right "), plain);

  // Every place is an object or was suppressed by one that overlaps it.
  const std::string explained = run("--explain --json --iou 0.3 picture.png");
  const Json reasons = Json::parse(explained, "stdout");
  check_objects(reasons.at("objects"), {20, 24}, explained);
  REQUIRE(reasons.at("suppressed").size() > 0);
  CHECK(reasons.at("objects").size() + reasons.at("suppressed").size() == 21);
  check_objects(reasons.at("suppressed"), {20, 24}, explained);
  for (Index i = 0; i < reasons.at("suppressed").size(); ++i) {
    const Json s = reasons.at("suppressed").at(i);
    REQUIRE(s.get<Index>("by") < reasons.at("objects").size());
    CHECK(s.get<double>("score") <= reasons.at("objects").at(s.get<Index>("by")).get<double>("score"));
    CHECK_MESSAGE((s.get<double>("iou") > 0.3 && s.get<double>("iou") <= 1), explained);
  }
  const std::string told = run("--explain --iou 0.3 picture.png");
  const std::string count = std::to_string(reasons.at("objects").size());
  CHECK_MESSAGE(contains(told, "objects with a score of at least  0.1: " + count + "  0.2: " + count), told);
  CHECK_MESSAGE(contains(told, "0.8: 0  0.9: 0\n"), told);
  CHECK_MESSAGE(contains(told, "  suppressed right 0.7"), told);

  CHECK(contains(run("--out detected/one picture.png"), "-> detected/one/overlay.png\n"));
  CHECK(read_image(w / "detected/one/overlay.png").size() == Size2(20, 24));
  CHECK(content_of(w / "detected/one/overlay.png") != content_of(w / "picture.png"));
  const Json kept = Json::read(w / "detected/one/result.json");
  CHECK(kept.at("objects").size() == answer.at("objects").size());
  CHECK(kept.at("files").get<std::string>("overlay") == "detected/one/overlay.png");
  run("--out detected/two --json picture.png second.png");
  for (const char* file : {"picture.overlay.png", "picture.result.json", "second.overlay.png", "second.result.json"}) {
    CHECK_MESSAGE(fs::exists(w / (std::string("detected/two/") + file)), file);
  }
  CHECK(read_image(w / "detected/two/second.overlay.png").size() == Size2(9, 7));
  CHECK(!fs::exists(w / "detected/two/overlay.png"));

  // One array of all pictures; corner and size instead of two corners.
  const std::string coco = run("--format coco second.png picture.png");
  const Json entries = Json::parse(coco, "stdout");
  REQUIRE_MESSAGE(entries.is_array(), coco);
  Index of_second = 0;
  for (Index i = 0; i < entries.size(); ++i) of_second += entries.at(i).get<Index>("image_id") == 0;
  REQUIRE(of_second > 0);
  REQUIRE(entries.size() == of_second + answer.at("objects").size());
  for (Index i = 0; i < answer.at("objects").size(); ++i) {
    const Json entry = entries.at(of_second + i), object = answer.at("objects").at(i), box = object.at("box"), bbox = entry.at("bbox");
    CHECK(entry.get<Index>("image_id") == 1);
    CHECK(entry.get<Index>("category_id") == object.get<Index>("class"));
    CHECK(entry.get<double>("score") == object.get<double>("score"));
    REQUIRE(bbox.size() == 4);
    for (Index k = 0; k < 2; ++k) {
      CHECK(bbox.at(k).get<double>() == box.at(k).get<double>());
      CHECK(bbox.at(k + 2).get<double>() == doctest::Approx(box.at(k + 2).get<double>() - box.at(k).get<double>()));
    }
  }
  CHECK(run("--format coco --json second.png picture.png") == coco);
  CHECK(run("--format coco --out detected/coco second.png picture.png") == "detected/coco/detections.json\n");
  CHECK(content_of(w / "detected/coco/detections.json") == coco);
  CHECK(run("--format coco --conf 0.99 picture.png") == "[]\n");

  // A model whose answer would be made of NaN.
  w.variant("certain", "nan", "model.safetensors", [](const std::string& file) {
    return edited_weights(file, [](NamedTensors& t) { Tensor(t.at("model.22.cv3.0.2.bias"))[0] = std::numeric_limits<float>::quiet_NaN(); });
  });
  expect(w, {"detect --model nan picture.png", "is not finite; the weights are damaged"});
  expect(w, {"eval --task detect --data boxes --model nan", "is not finite; the weights are damaged"});
}

TEST_CASE("names and licences go to a terminal without control characters") {
  const Workshop& w = workshop();
  const std::string hostile = "\"\\u001b]0;\\u007f\\n\"";
  const auto spoil = [&](const std::string& from, const std::string& to, const std::vector<std::string>& members) {
    w.variant(from, to, "config.json", [&](std::string file) {
      for (const std::string& member : members) file = replaced(file, member, member.substr(0, member.find(' ') + 1) + hostile);
      return replaced(file, "{", "{\"license\": " + hostile + ",");
    });
  };
  certain_detector(w, "sure");
  spoil("sure", "hostile_detector", {"\"1\": \"right\""});
  spoil("classifier", "hostile_classifier", {"\"1\": \"right\""});
  spoil("segmenter", "hostile_segmenter", {"\"0\": \"ground\"", "\"1\": \"rectangle\""});
  for (const char* data : {"boxes", "scenes"}) {
    const std::string copy = std::string("nameless_") + data;
    fs::copy(w / data, w / copy, fs::copy_options::recursive);
    fs::remove(w / (copy + "/classes.txt"));
  }
  for (const char* command :
       {"detect --explain --iou 0.3 picture.png --model hostile_detector", "eval --task detect --data nameless_boxes --model hostile_detector",
        "classify picture.png --model hostile_classifier", "segment picture.png --model hostile_segmenter",
        "eval --task segment --data nameless_scenes --model hostile_segmenter", "info --model hostile_classifier"}) {
    const Outcome outcome = w.run(command);
    CHECK_MESSAGE(outcome.code == 0, command << "\n" << outcome.str());
    CHECK_MESSAGE(contains(outcome.out, "?]0;??"), command << "\n" << outcome.str());
    const auto obeyed = [](char c) { return (c >= 0 && c < 0x20 && c != '\n') || c == 0x7f; };
    CHECK_MESSAGE(std::none_of(outcome.out.begin(), outcome.out.end(), obeyed), command << "\n" << outcome.str());
  }
}

TEST_CASE("a detector: trained, resumed to the same bits, judged") {
  const Workshop& w = workshop();
  const std::string settings =
      "train --task detect --data boxes --model yolov8n --batch 2 --size 32 --max-steps 4 --checkpoint-every 2 --log-every 1 --ema 0.9 "
      "--mixup 0.5 --scale 0.3 --vertical-flip 0.5 ";
  const std::string recipe = settings + "--mosaic 0.5 ";
  const Outcome trained = w.run(recipe + "--out boxes_run");
  REQUIRE_MESSAGE(trained.code == 0, trained.str());
  CHECK_MESSAGE(trained.err.empty(), trained.str());
  CHECK_MESSAGE(contains(trained.out, "boxes_run: 4 of 4 steps, loss "), trained.str());
  const NamedTensors weights = read_safetensors(w / "boxes_run/model.safetensors");
  CHECK(BasicTensor<std::int64_t>(weights.at("model.0.bn.num_batches_tracked")).item() == 4);
  w.variant("boxes_run", "boxes_parts", "model.safetensors", [](const std::string&) { return std::string(); });
  fs::remove(w / "boxes_parts/checkpoints/checkpoint-00000004.safetensors");
  expect(w, {settings + "--mosaic 0.25 --out boxes_parts --resume", "started with other settings: detection_augmentation was ["});
  const Outcome resumed = w.run(recipe + "--out boxes_parts --resume");
  REQUIRE_MESSAGE(resumed.code == 0, resumed.str());
  CHECK(content_of(w / "boxes_parts/model.safetensors") == content_of(w / "boxes_run/model.safetensors"));

  const Outcome judged = w.run("eval --task detect --data boxes --model boxes_run --json --out judged");
  REQUIRE_MESSAGE(judged.code == 0, judged.str());
  CHECK(judged.err.empty());
  const Json result = Json::parse(judged.out, "stdout");
  CHECK(result.get<std::string>("schema") == "ocellus.eval/1");
  CHECK(result.get<std::string>("task") == "detect");
  for (const char* metric : {"map50", "map"}) {
    const double value = result.at("metrics").get<double>(metric);
    CHECK_MESSAGE((value >= 0 && value <= 1), metric << ": " << value);
  }
  REQUIRE(result.at("per_class").size() == 2);
  CHECK(result.at("per_class").at(1).get<std::string>("name") == "right");
  CHECK(result.at("per_class").at(1).get<Index>("objects") == 2);
  CHECK(result.at("errors").has("localisation"));
  CHECK_NOTHROW(read_whole(w / "judged/precision_recall.svg"));
  const Outcome table = w.run("eval --task detect --data boxes --model boxes_run");
  REQUIRE_MESSAGE(table.code == 0, table.str());
  for (const char* part : {"map50 ", "map ", "left ", "right ", "at IoU 0.5, all scores: found "}) {
    CHECK_MESSAGE(contains(table.out, part), table.str());
  }

  // Further, without variation, under the names that the model has; and the epochs without mosaics at the end.
  const Outcome further = w.run(
      "train --task detect --data boxes --model boxes_run --classes left,right --batch 2 --size 32 --epochs 1 --no-augmentation --out boxes_further");
  CHECK_MESSAGE(further.code == 0, further.str());

  // Further at the size that the model has, or at another, which then is the model's. What segments keeps its own size.
  const auto size_after = [&](const std::string& command) {
    const Outcome outcome = w.run("train --batch 2 --max-steps 1 --out resized --model " + command);
    REQUIRE_MESSAGE(outcome.code == 0, command << "\n" << outcome.str());
    const Json state = Json::parse(read_safetensors(w / "resized/checkpoints/checkpoint-00000001.safetensors").metadata.at("ocellus.state"), "checkpoint");
    const Json trained_at = Json::parse(state.get<std::string>("settings"), "settings"), size = Json::read(w / "resized/preprocessor_config.json").at("size");
    fs::remove_all(w / "resized");
    return std::vector<Index>{trained_at.get<Index>("height"), trained_at.get<Index>("width"), size.get<Index>("height"), size.get<Index>("width")};
  };
  w.variant("boxes_run", "boxes_wide", "preprocessor_config.json", [](const std::string& text) {
    return replaced(text, "\"width\": 32", "\"width\": 96");
  });
  CHECK(size_after("boxes_wide --task detect --data boxes") == std::vector<Index>{32, 96, 32, 96});
  CHECK(size_after("boxes_wide --task detect --data boxes --size 64") == std::vector<Index>{64, 64, 64, 64});
  CHECK(size_after("segmenter --task segment --data scenes") == std::vector<Index>{256, 256, 32, 32});
  CHECK(size_after("segmenter --task segment --data scenes --size 48") == std::vector<Index>{48, 48, 32, 32});

  const std::string epochs = "train --task detect --data boxes --model detector --batch 2 --size 32 --epochs 2 --out ";
  REQUIRE(w.run(epochs + "whole_both --whole-epochs 2").code == 0);
  REQUIRE(w.run(epochs + "whole_never --mosaic 0").code == 0);
  REQUIRE(w.run(epochs + "whole_last --whole-epochs 1").code == 0);
  const auto result_of = [&](const char* name) { return content_of(w / (std::string(name) + "/model.safetensors")); };
  CHECK(result_of("whole_both") == result_of("whole_never"));
  CHECK(result_of("whole_last") != result_of("whole_never"));
}

TEST_CASE("Pascal VOC: a box without area is left out with a warning") {
  const Workshop& w = workshop();
  std::string lists[2];
  for (int i = 0; i < 4; ++i) {
    const std::string name = "p" + std::to_string(i);
    w.picture("voc/JPEGImages/" + name + ".png", {30, 40}, 3, static_cast<std::uint8_t>(60 * i));
    const auto object = [](const std::string& label, int x1, int y1, int x2, int y2) {
      const auto edge = [](const std::string& tag, int v) { return "<" + tag + ">" + std::to_string(v) + "</" + tag + ">"; };
      return "<object><name>" + label + "</name><difficult>0</difficult><bndbox>" + edge("xmin", x1) + edge("ymin", y1) + edge("xmax", x2) +
             edge("ymax", y2) + "</bndbox></object>";
    };
    w.write("voc/Annotations/" + name + ".xml",
            "<annotation><filename>" + name + ".png</filename><size><width>40</width><height>30</height></size>" +
                object(i % 2 ? "right" : "left", 5, 5, 25, 25) + (i == 1 ? object("left", 9, 4, 9, 20) : "") + "</annotation>");
    lists[i / 2] += name + "\n";
  }
  w.write("voc/ImageSets/Main/train.txt", lists[0]);
  w.write("voc/ImageSets/Main/val.txt", lists[1]);
  const std::string train = "train --task detect --data voc --model detector --batch 2 --size 32 --max-steps 1 --out voc_run";
#if !defined(OCELLUS_VOC)
  expect(w, {train, "is Pascal VOC, whose XML is read by"});
#else
  const Outcome trained = w.run(train);
  REQUIRE_MESSAGE(trained.code == 0, trained.str());
  CHECK_MESSAGE(trained.err.starts_with("ocellus: warning: boxes without area or outside of their pictures were left out: 1"), trained.str());
  CHECK_MESSAGE(contains(trained.err, "voc/Annotations/p1.xml"), trained.str());
  CHECK_MESSAGE(is_complaint(trained.err), trained.str());
  const Outcome judged = w.run("eval --task detect --data voc --model voc_run --json");
  REQUIRE_MESSAGE(judged.code == 0, judged.str());
  CHECK_MESSAGE(judged.err.empty(), judged.str());
  CHECK(Json::parse(judged.out, "stdout").at("per_class").at(0).get<Index>("objects") == 1);
#endif
}

TEST_CASE("a disk that is full leaves no half-written file") {
  struct Writer {
    std::string command;
    std::size_t files;  // when nothing goes wrong
  };
  const Writer writers[] = {{"convert classifier/model.safetensors full.safetensors", 1},
                            {"run --model segmenter --input x.npy --output full", 1},
                            {"segment --model segmenter --out full picture.png", 3},
                            {"detect --model detector --out full picture.png", 2},
                            {"detect --model detector --out full --format coco picture.png", 3},
                            {"quantize --model classifier --calibrate sides --out full --all", 3},
                            {train_classifier + "--log-every 1 --out full --max-steps 4 --checkpoint-every 2", 7}};
  const Workshop& w = workshop();
  for (const Writer& writer : writers) {
    int failed = 0;
    for (const std::int64_t most_bytes : {0, 50, 80, 120, 250, 400, 700, 2000, 20'000, 100'000, 1'000'000}) {
      const std::map<std::string, std::string> before = w.files();
      const Outcome outcome = w.run(writer.command, most_bytes);
      std::map<std::string, std::string> made = w.files();
      const std::size_t kept = std::erase_if(made, [&](const auto& file) {
        const auto known = before.find(file.first);
        return known != before.end() && known->second == file.second;
      });
      CHECK(kept == before.size());
      for (const auto& [name, stamp] : made) {
        CHECK_NOTHROW_MESSAGE(read_whole(w / name), writer.command << " within " << most_bytes << " bytes: " << name);
      }
      const std::string told = writer.command + " within " + std::to_string(most_bytes) + " bytes\n" + outcome.str();
      if (outcome.code == 0) {
        CHECK_MESSAGE(made.size() == writer.files, told);
        CHECK_MESSAGE(outcome.err.empty(), told);
      } else {
        ++failed;
        CHECK_MESSAGE(outcome.code == 1, told);
        CHECK_MESSAGE(outcome.out.empty(), told);
        CHECK_MESSAGE((is_complaint(outcome.err) && contains(outcome.err, "cannot be written")), told);
        CHECK_MESSAGE(made.size() < writer.files, told);
      }
      fs::remove_all(w / "full");
      fs::remove(w / "full.safetensors");
    }
    CHECK_MESSAGE((failed > 0 && failed < 11), writer.command << ": " << failed << " of 11 failed");
  }

  // What is there already survives.
  w.write("kept.safetensors", "old");
  CHECK(w.run("convert classifier/model.safetensors kept.safetensors", 1000).code == 1);
  CHECK(content_of(w / "kept.safetensors") == "old");

  if (!fs::exists("/dev/full")) return;
  for (const std::string command : {"info --model classifier", "info --model classifier --json",
                                    "classify --model classifier picture.png", "--help"}) {
    const Outcome outcome = w.run(split(command, ' '), unlimited, "/dev/full");
    CHECK_MESSAGE(outcome.code == 1, command << "\n" << outcome.str());
    CHECK_MESSAGE(outcome.err == "ocellus: the output could not be written\n", command << "\n" << outcome.str());
  }
}

TEST_CASE("--json: one object a line on stdout and nothing else") {
  struct Row {
    std::string command;
    const char* schema;  // of the last line
    std::size_t lines;
  };
  const Row rows[] = {
      {"info --model classifier", "ocellus.info/1", 1},
      {"info --model segmenter --size 32x64 --threads 2", "ocellus.info/1", 1},
      {"run --model segmenter --input x.npy --output json/run", "ocellus.run/1", 1},
      {"run --model classifier --input grey.npy --output json/run --profile", "ocellus.run/1", 1},
      {"run --model detector --input x.npy --output json/maps --profile", "ocellus.run/1", 1},
      {"info --model detector", "ocellus.info/1", 1},
      {"bench --model detector --runs 1 --size 64", "ocellus.bench/1", 1},
      {"quantize --model detector --calibrate scenes/images --out json/detector --pictures 1", "ocellus.quantize/1", 1},
      {"classify --model classifier picture.png second.png --top 1", "ocellus.classify/1", 2},
      {"classify --model vit second.png --top 99", "ocellus.classify/1", 1},
      {"segment --model segmenter picture.png", "ocellus.segment/1", 1},
      {"segment --model segmenter --out json/one picture.png", "ocellus.segment/1", 1},
      {"segment --model segmenter --out json/two picture.png second.png", "ocellus.segment/1", 2},
      {"detect --model detector picture.png second.png", "ocellus.detect/1", 2},
      {"detect --model detector --explain --agnostic --max 3 --out json/found picture.png", "ocellus.detect/1", 1},
      {train_detector + "--log-every 1 --out json/trained --max-steps 2", "ocellus.train/1", 3},
      {"eval --task detect --data boxes --model json/trained", "ocellus.eval/1", 1},
      {"detect --model json/trained --precision bf16 picture.png", "ocellus.detect/1", 1},
      {train_classifier + "--log-every 1 --out json/classifier --max-steps 3", "ocellus.train/1", 4},
      {train_classifier + "--log-every 1 --out json/classifier --max-steps 3 --resume", "ocellus.train/1", 1},
      {train_classifier + "--out json/stopped --max-steps 3000000 --log-every 1000000 --max-minutes 1e-4",
       "ocellus.train/1", 1},
      {train_segmenter +
           "--log-every 1 --out json/segmenter --max-steps 2 --ema 0.9 --dice 0.5 --class-weights sqrt --dtype bf16",
       "ocellus.train/1", 3},
      {"eval --task classify --data sides --model json/classifier", "ocellus.eval/1", 1},
      {"eval --task segment --data scenes --model json/segmenter --prior train", "ocellus.eval/1", 1},
      {"bench --model classifier --runs 1", "ocellus.bench/1", 1},
      {"bench --model segmenter --runs 1 --size 32 --batch 2 --profile", "ocellus.bench/1", 1},
      {"bench --model segmenter --runs 1 --size 32 --precision bf16 --profile", "ocellus.bench/1", 1},
      {"quantize --model segmenter --calibrate scenes --out json/quantized --all", "ocellus.quantize/1", 1},
      {"quantize --model json/quantized --calibrate scenes/images --out json/again --pictures 3", "ocellus.quantize/1", 1},
      {"eval --task segment --data scenes --model json/quantized", "ocellus.eval/1", 1},
      {"segment --model json/quantized --precision f32 picture.png", "ocellus.segment/1", 1},
      {"convert classifier/model.safetensors json/converted.safetensors --dtype f16", "ocellus.convert/1", 1}};
  const Workshop& w = workshop();
  for (const Row& row : rows) {
    const Outcome outcome = w.run(row.command + " --json");
    CHECK_MESSAGE(outcome.code == 0, row.command << "\n" << outcome.str());
    CHECK_MESSAGE(outcome.err.empty(), row.command << "\n" << outcome.str());
    CHECK_MESSAGE(outcome.out.ends_with('\n'), row.command << "\n" << outcome.str());
    const std::vector<std::string> lines = split(outcome.out, '\n');
    CHECK_MESSAGE(lines.size() == row.lines, row.command << "\n" << outcome.str());
    for (const std::string& line : lines) CHECK_MESSAGE(Json::parse(line, row.command).is_object(), row.command);
    CHECK_MESSAGE(Json::parse(lines.back(), row.command).get<std::string>("schema") == row.schema, row.command);
  }
  for (const std::string file :
       {"one/overlay.png", "one/labels.png", "one/result.json", "two/picture.overlay.png", "two/picture.labels.png",
        "two/picture.result.json", "two/second.overlay.png", "two/second.labels.png", "two/second.result.json",
        "run/logits.npy", "classifier/model.safetensors", "classifier/config.json",
        "classifier/preprocessor_config.json", "classifier/log.jsonl", "classifier/curve.svg"}) {
    CHECK_MESSAGE(fs::exists(w / ("json/" + file)), file);
  }
  CHECK(read_image(w / "json/one/labels.png").size() == Size2(20, 24));
  CHECK(Tensor(read_npy(w / "json/run/logits.npy")).shape() == Shape{2, 2});
  CHECK(Tensor(read_npy(w / "json/maps/p3.npy")).shape() == Shape{1, 4, 4, 64 + 2});
  CHECK(Tensor(read_npy(w / "json/maps/p4.npy")).shape() == Shape{1, 2, 2, 64 + 2});
  CHECK(Tensor(read_npy(w / "json/maps/p5.npy")).shape() == Shape{1, 1, 1, 64 + 2});

  // Names that would break a line or a string.
  const std::string name = "a \"b\"\n\x1b.png";
  fs::copy_file(w / "picture.png", w / name);
  const Outcome odd = w.run({"segment", "--model", "segmenter", "--json", name});
  CHECK_MESSAGE(odd.code == 0, odd.str());
  CHECK(split(odd.out, '\n').size() == 1);
  CHECK(Json::parse(odd.out, "stdout").get<std::string>("image") == name);
  fs::remove(w / name);
  const Outcome gone = w.run({"segment", "--model", "segmenter", "--json", name});
  CHECK_MESSAGE((gone.code == 1 && is_complaint(gone.err)), gone.str());
}

TEST_CASE("quantize chooses once, and the choice is what the model runs in") {
  const Workshop& w = workshop();
  const auto report = [&](const std::string& command) {
    const Outcome outcome = w.run(command + " --json");
    REQUIRE_MESSAGE(outcome.code == 0, command << "\n" << outcome.str());
    return Json::parse(outcome.out, command);
  };
  const auto precision = [&](const std::string& options) {
    return report("bench --runs 1 --size 32 --model " + options).get<std::string>("precision");
  };
  const Json all = report("quantize --model segmenter --calibrate scenes --out int8/all --all");
  CHECK(all.get<Index>("pictures") == 2);
  CHECK(all.at("layers").size() > 10);
  for (Index i = 0; i < all.at("layers").size(); ++i) CHECK(all.at("layers").at(i).get<std::string>("precision") == "int8");
  CHECK(all.get<double>("error") > 0);
  CHECK(precision("segmenter") == "f32");
  CHECK(precision("segmenter --precision bf16") == "bf16");
  CHECK(precision("int8/all") == "int8");
  CHECK(precision("int8/all --precision f32") == "f32");

  // Calibrated with a folder of pictures; a second choice takes the place of the first.
  const Json chosen = report("quantize --model int8/all --calibrate scenes/images --out int8/chosen --pictures 3");
  CHECK(chosen.get<Index>("pictures") == 3);
  CHECK(chosen.get<double>("changed") <= 0.005);
  Index in_int8 = 0;
  for (Index i = 0; i < chosen.at("layers").size(); ++i) in_int8 += chosen.at("layers").at(i).get<std::string>("precision") == "int8";
  CHECK(read_safetensors(w / "int8/chosen/model.safetensors").metadata.contains("ocellus.precision"));
  CHECK(precision("int8/chosen") == (in_int8 ? "int8" : "f32"));
}
