// A model directory, opened: preprocessor files as the reference reads them, weights and configurations that do not fit,
// memory instead of files.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include <ocellus/io.hpp>
#include <ocellus/models/lenet.hpp>
#include <ocellus/models/segformer.hpp>
#include <ocellus/models/vit.hpp>
#include <ocellus/nn/init.hpp>
#include <ocellus/pipeline.hpp>
#include <ocellus/testing/gradcheck.hpp>

#include "io_support.hpp"
#include "torch_support.hpp"

using namespace ocellus;
using namespace io_test;

namespace {

const char* const vit_config = R"({"model_type": "vit", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
  "intermediate_size": 16, "image_size": 16, "patch_size": 8, "num_labels": 3})";

Json json(std::string_view text) { return Json::parse(text, "config.json"); }

// What the reference's processor of this model does with a file of this text.
Preprocess preprocessor(const char* text, const char* config = vit_config) {
  return read_preprocessor(Json::parse(text, "preprocessor_config.json"), default_preprocess(json(config)));
}

NamedTensors weights_of(Network& network) {
  NamedTensors tensors;
  for (const NamedParameter& p : network.parameters()) tensors.add(p.name, to_file(*p.parameter));
  return tensors;
}

ModelBytes files_of(std::string_view config, const NamedTensors& weights, std::string_view processor = {}) {
  const TemporaryFolder folder;
  write_safetensors(folder / "w", weights);
  ModelBytes files;
  files.config = bytes_of(config);
  files.weights = bytes_of(content_of(folder / "w"));
  if (!processor.empty()) files.preprocessor = bytes_of(processor);
  return files;
}

std::string error_of_open(const ModelBytes& files) {
  try {
    open(files);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

Image gradient_picture(Size2 size) {
  Image image(size, 3);
  std::uint8_t* p = image.writable();
  for (Index i = 0; i < size.h * size.w * 3; ++i) p[i] = static_cast<std::uint8_t>(i * 7 % 251);
  return image;
}

}  // namespace

TEST_CASE("what a preprocessor file leaves out is the reference's default for the model") {
  const char* const segformer = R"({"model_type": "segformer"})";
  const Preprocess vit = preprocessor("{}"), seg = preprocessor("{}", segformer);
  CHECK(vit.size == Size2(16));
  CHECK(vit.mean[0] == 0.5f);
  CHECK(vit.std[2] == 0.5f);
  CHECK(seg.size == Size2(512));
  CHECK(seg.mean[0] == 0.485f);
  CHECK(preprocessor(R"({"image_mean": null, "size": 32})").mean[1] == 0.5f);
  CHECK(preprocessor(R"({"size": 32})").size == Size2(32));
  CHECK(preprocessor(R"({"size": {"height": 20, "width": 30}})").size == Size2(20, 30));
  CHECK(preprocessor(R"({"size": {"shortest_edge": 24}})").resize == ResizePolicy::shortest_edge);
  CHECK(preprocessor(R"({"do_resize": false})").resize == ResizePolicy::none);
  CHECK(preprocessor(R"({"image_mean": [0.1]})").mean[2] == 0.1f);
}

TEST_CASE("convolutional networks expect what torchvision's weights expect") {
  for (const char* config : {R"({"model_type": "resnet"})", R"({"model_type": "vgg"})", R"({"model_type": "mobilenet_v2"})"}) {
    const Preprocess p = default_preprocess(json(config));
    CHECK(p.resize == ResizePolicy::shortest_edge);
    CHECK(p.shortest_edge == 256);
    CHECK(p.filter == Filter::bilinear);
    CHECK(p.do_center_crop);
    CHECK(input_size(p, 1) == Size2(224));
    CHECK(p.mean[0] == 0.485f);
    CHECK(p.std[2] == 0.225f);
  }
  const char* const resnet = R"({"model_type": "resnet"})";
  CHECK(input_size(preprocessor("{}", resnet), 1) == Size2(224));
  CHECK(input_size(preprocessor(R"({"crop_size": 96, "size": {"shortest_edge": 110}})", resnet), 1) == Size2(96));
  CHECK(input_size(preprocessor(R"({"do_center_crop": false, "size": {"height": 20, "width": 30}})", resnet), 1) == Size2(20, 30));
  // 300×400 becomes 256×341, of which the crop leaves out 16 pixels at the top and 58 on the left.
  const Image picture = gradient_picture({300, 400});
  const Preprocess p = default_preprocess(json(resnet));
  const Image resized = resize(picture, 256, 341, Filter::bilinear), prepared = prepare(picture, p);
  REQUIRE(prepared.size() == Size2(224));
  int differing = 0;
  for (Index y = 0; y < 224; ++y) differing += !std::equal(prepared.row(y), prepared.row(y) + 224 * 3, resized.row(16 + y) + 58 * 3);
  CHECK(differing == 0);
}

TEST_CASE("YOLO expects a letterbox of pixels between 0 and 1") {
  for (const char* config : {R"({"model_type": "yolov8"})", R"({"model_type": "yolo11"})"}) {
    const Preprocess p = default_preprocess(json(config));
    CHECK(p.resize == ResizePolicy::letterbox);
    CHECK(p.filter == Filter::bilinear_two_taps);
    CHECK(p.pad_value == 114);
    CHECK(p.do_rescale);
    CHECK_FALSE(p.do_normalize);
    CHECK(input_size(p, 1) == Size2(640));
  }
}

TEST_CASE("a runner gives every output of its network") {
  const std::shared_ptr<Network> network = make_network(
      json(R"({"model_type": "yolo11", "variant": "n", "width_multiple": 0.125, "max_channels": 64, "num_labels": 2})"));
  const Runner runner(network);
  const Tensor x = random_tensor<float>({1, 32, 64, 3}, 1);
  const NoGrad no_grad;
  const std::vector<Tensor> eager = network->outputs(x), planned = runner.outputs(x);
  REQUIRE(planned.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) CHECK(max_difference(planned[i], eager[i]) <= 1e-5 * max_abs(eager[i]));
  CHECK_THROWS_WITH_AS(runner.run(x), "run: yolo11 has several outputs; outputs() gives all", UsageError);
  CHECK(network->decode(planned).boxes.shape() == Shape{1, 4 * 8 + 2 * 4 + 1 * 2, 4});
}

TEST_CASE("only processors that crop crop") {
  const char* const crop = R"("do_center_crop": true, "crop_size": 12})";
  const auto crops = [&](const std::string& type) {
    return preprocessor(("{\"image_processor_type\": \"" + type + "\", " + crop).c_str()).do_center_crop;
  };
  CHECK(!crops("ViTImageProcessor"));
  CHECK(!crops("ViTImageProcessorFast"));
  CHECK(!crops("SegformerFeatureExtractor"));
  CHECK(crops("DeiTImageProcessor"));
  CHECK(crops("CLIPImageProcessorFast"));
  CHECK(preprocessor((std::string("{") + crop).c_str()).do_center_crop);
  CHECK(contains(file_error_of([&] { crops("ConvNextImageProcessor"); }), "image_processor_type: this image processor is unknown"));
}

TEST_CASE("a preprocessor file that cannot be followed is refused with its element") {
  struct Row {
    const char *text, *expected;
  };
  const Row rows[] = {
      {R"({"image_mean": [0.5, 0.5]})", "image_mean: must have one or three elements"},
      {R"({"image_std": [0, 1, 1]})", "image_std: must be finite and positive"},
      {R"({"size": 0})", "size: must lie between 1 and 16384"},
      {R"({"size": {"height": 3}})", "size: the key \"width\" is missing"},
      {R"({"resample": 9})", "resample: must be one of Pillow's filters"},
      {R"({"do_center_crop": true})", "the key \"crop_size\" is missing"},
  };
  for (const Row& row : rows) CHECK(contains(file_error_of([&] { preprocessor(row.text); }), row.expected));
  Preprocess huge;
  huge.size = 16384;
  CHECK_THROWS_WITH_AS(prepare(gradient_picture(4), huge), doctest::Contains("at most 100000000 are made"), UsageError);
}

TEST_CASE("a model opens from memory as from its directory") {
  const auto network = make_network(json(vit_config));
  const TemporaryFolder folder;
  save_model(folder.path(), *network, {.size = 16});
  const Model from_files = open(folder.path());
  ModelBytes files;
  files.config = bytes_of(content_of(folder / "config.json"));
  files.weights = bytes_of(content_of(folder / "model.safetensors"));
  files.preprocessor = bytes_of(content_of(folder / "preprocessor_config.json"));
  const Model from_memory = open(files);
  const Image picture = gradient_picture({21, 34});
  const ClassifyResult a = from_files.classify(picture, 3), b = from_memory.classify(picture, 3);
  REQUIRE(a.top.size() == 3);
  double sum = 0;
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(a.top[i].id == b.top[i].id);
    CHECK(a.top[i].score == b.top[i].score);
    sum += a.top[i].score;
  }
  CHECK(sum == doctest::Approx(1));
  CHECK_THROWS_WITH_AS(from_files.segment(picture), doctest::Contains("is a vit model for the task 'classify'"), UsageError);
}

TEST_CASE("a program may open the architectures that it names and no others") {
  const auto network = make_network(json(vit_config));
  const ModelBytes files = files_of(vit_config, weights_of(*network));
  const Image picture = gradient_picture(16);
  CHECK(open<SegFormer, ViT>(files).classify(picture).top[0].score == open(files).classify(picture).top[0].score);
  CHECK_THROWS_WITH_AS((open<SegFormer, LeNet>(files, "mine")),
                       doctest::Contains("model_type \"vit\" is unknown; the program has segformer, lenet"), ConfigError);
  const TemporaryFolder folder;
  save_model(folder.path(), *network, {.size = {16, 16}});
  CHECK(open<ViT>(folder.path()).labels() == network->labels());
}

TEST_CASE("a configuration of ours names a variant and may change its widths") {
  const auto written = [](const Network& network) {
    JsonWriter text;
    text.begin_object().field("model_type", network.model_type());
    network.write_config(text);
    return text.end_object().str();
  };
  const char* const configs[] = {
      R"({"model_type": "resnet", "variant": "resnet50", "hidden_sizes": [4, 4, 4, 4], "depths": [1, 2, 1, 1], "id2label": {"0": "cat", "1": "dog"}})",
      R"({"model_type": "vgg", "variant": "vgg11_bn", "hidden_sizes": [4, 4, 4, 4, 4], "classifier_size": 8, "num_labels": 2, "num_channels": 1})",
      R"({"model_type": "mobilenet_v2", "variant": "mobilenet_v2", "stem_size": 4, "hidden_sizes": [4, 4, 4, 4, 4, 4, 4], "last_size": 8, "num_labels": 2})"};
  for (const char* config : configs) {
    const auto network = make_network(json(config));
    const TemporaryFolder folder;
    save_model(folder.path(), *network, {.size = {32, 40}});
    const Model model = open(folder.path());
    CHECK(input_size(model.preprocess(), 1) == Size2(32, 40));
    CHECK(written(model.network()) == written(*network));
    CHECK(model.labels() == network->labels());
    CHECK(model.classify(gradient_picture({40, 30})).top.size() == 2);
  }
  CHECK(make_network(json(configs[0]))->labels()[1] == "dog");
  CHECK(contains(file_error_of([] { make_network(json(R"({"model_type": "resnet"})")); }), "the key \"variant\" is missing"));
  CHECK(contains(file_error_of([] { make_network(json(R"({"model_type": "vgg", "variant": "vgg12"})")); }),
                 "variant: \"vgg12\" is not a variant that the library has (vgg11, vgg13, vgg16, vgg19, vgg11_bn"));
  CHECK(contains(file_error_of([] { make_network(json(R"({"model_type": "resnet", "variant": "resnet18", "depths": [2, 2]})")); }),
                 "depths: must have 4 elements; got 2"));
}

TEST_CASE("weights that do not fit are refused key by key") {
  const auto network = make_network(json(vit_config));
  const NamedTensors good = weights_of(*network);
  const auto replaced = [&](const AnyTensor& tensor, const std::string& name = "classifier.bias") {
    NamedTensors changed;
    for (const NamedTensor& t : good) changed.add(t.name, t.name == "classifier.bias" ? tensor : t.tensor);
    if (name != "classifier.bias") changed.add(name, tensor);
    return changed;
  };
  CHECK(error_of_open(files_of(vit_config, good)) == "accepted");
  CHECK(error_of_open(files_of(vit_config, replaced(convert(Tensor({3}), DType::bf16)))) == "accepted");
  CHECK(error_of_open(files_of(vit_config, replaced(convert(Tensor({3}), DType::f64)))) == "accepted");
  for (const DType type : {DType::u8, DType::i64}) {
    const std::string error = error_of_open(files_of(vit_config, replaced(convert(Tensor({3}), type))));
    CHECK(contains(error, "classifier.bias: the file has " + std::string(name_of(type)) + ", the model needs f32, f64, f16 or bf16"));
  }
  CHECK(contains(error_of_open(files_of(vit_config, replaced(Tensor({4})))), "classifier.bias: the file has (4), the model needs (3)"));
  CHECK(contains(error_of_open(files_of(vit_config, replaced(Tensor({3}), "classifier.bios"))), "unexpected in the file (1)"));
}

TEST_CASE("a configuration that asks for more than the weights hold costs an exception, not the memory") {
  const auto network = make_network(json(vit_config));
  const char* const hostile = R"({"model_type": "vit", "hidden_size": 65536, "num_hidden_layers": 1000, "num_attention_heads": 2,
    "intermediate_size": 1048576, "image_size": 16, "patch_size": 8, "num_labels": 3})";
  CHECK(contains(error_of_open(files_of(hostile, weights_of(*network))), "would make it too large"));
}

TEST_CASE("logits that are not finite are an error, not an answer") {
  const auto network = make_network(json(vit_config));
  for (const NamedParameter& p : network->parameters()) {
    if (p.name == "classifier.bias") (*p.parameter)[1] = std::numeric_limits<float>::quiet_NaN();
  }
  const Model model = open(files_of(vit_config, weights_of(*network)));
  CHECK_THROWS_WITH_AS(model.classify(gradient_picture(16)), doctest::Contains("logit 1 of (1, 3) is not finite"), Error);
}

TEST_CASE("weights in shards are one model") {
  const auto network = make_network(json(vit_config));
  const NamedTensors all = weights_of(*network);
  const TemporaryFolder folder;
  folder.write("config.json", vit_config);
  NamedTensors parts[2];
  JsonWriter index;
  index.begin_object().key("weight_map").begin_object();
  std::size_t i = 0;
  for (const NamedTensor& t : all) {
    parts[i % 2].add(t.name, t.tensor);
    index.field(t.name, i++ % 2 ? "b.safetensors" : "a.safetensors");
  }
  folder.write("model.safetensors.index.json", index.end_object().end_object().str());
  write_safetensors(folder / "a.safetensors", parts[0]);
  CHECK(contains(file_error_of([&] { open(folder.path()); }), "b.safetensors"));
  write_safetensors(folder / "b.safetensors", parts[1]);
  const Image picture = gradient_picture(16);
  const Model sharded = open(folder.path()), whole = open(files_of(vit_config, all));
  CHECK(sharded.classify(picture).top[0].score == whole.classify(picture).top[0].score);
  folder.write("model.safetensors.index.json", R"({"weight_map": {"x": "../a.safetensors"}})");
  CHECK(contains(file_error_of([&] { open(folder.path()); }), "is not a file of this directory"));
}

TEST_CASE("weights in PyTorch's files, whole or in shards, are the same model") {
  const auto network = make_network(json(vit_config));
  const NamedTensors all = weights_of(*network);
  const Image picture = gradient_picture(16);
  const double expected = open(files_of(vit_config, all)).classify(picture).top[0].score;
  const TemporaryFolder whole;
  whole.write("config.json", vit_config);
  whole.write("pytorch_model.bin", io_test::torch_archive(all));
  CHECK_THROWS_WITH_AS(open<ViT>(whole.path()), doctest::Contains("give open() the torch_reader ocellus::read_torch_file"), FileError);
  CHECK(open<ViT>(whole.path(), {.torch_reader = read_torch_file}).labels() == network->labels());
  CHECK(open(whole.path()).classify(picture).top[0].score == expected);

  const TemporaryFolder sharded;
  sharded.write("config.json", vit_config);
  NamedTensors parts[2];
  JsonWriter index;
  index.begin_object().key("weight_map").begin_object();
  for (std::size_t i = 0; const NamedTensor& t : all) {
    parts[i % 2].add(t.name, t.tensor);
    index.field(t.name, i++ % 2 ? "b.bin" : "a.bin");
  }
  sharded.write("pytorch_model.bin.index.json", index.end_object().end_object().str());
  sharded.write("a.bin", io_test::torch_archive(parts[0]));
  sharded.write("b.bin", io_test::torch_archive(parts[1]));
  CHECK(open(sharded.path()).classify(picture).top[0].score == expected);
}

TEST_CASE("a model whose outputs have no names is refused") {
  const char* const config = R"({"model_type": "mlp", "sizes": [4, 50], "num_labels": 2})";
  CHECK(contains(error_of_open(files_of(config, {})), "got 50 outputs and 2 labels"));
}

TEST_CASE("a preprocessor file says what is written into it") {
  Preprocess p;
  p.resize = ResizePolicy::shortest_edge;
  p.shortest_edge = 40;
  p.filter = Filter::bicubic;
  p.do_center_crop = true;
  p.crop_size = {20, 30};
  p.do_rescale = false;
  p.rescale_factor = 0.5;
  p.do_normalize = false;
  p.mean = {0.1f, 0.2f, 0.3f};
  p.std = {0.4f, 0.5f, 0.6f};
  p.flip_channel_order = true;
  const auto written = [](const Preprocess& x) {
    JsonWriter json;
    write_preprocessor(json, x);
    return json.str();
  };
  const Preprocess q = read_preprocessor(json(written(p)), {});
  CHECK(written(q) == written(p));
  CHECK(q.flip_channel_order);
  p.resize = ResizePolicy::letterbox;
  p.pad_value = 7;
  p.letterbox_may_enlarge = false;
  p.filter = Filter::bilinear_two_taps;
  const Preprocess boxed = read_preprocessor(json(written(p)), {});
  CHECK(written(boxed) == written(p));
  CHECK(boxed.pad_value == 7);
  CHECK_FALSE(boxed.letterbox_may_enlarge);
  CHECK(boxed.filter == Filter::bilinear_two_taps);
  CHECK(contains(file_error_of([] { read_preprocessor(json(R"({"resample": 3, "antialias": false})"), {}); }), "may be false with the bilinear filter only"));
  CHECK(contains(file_error_of([] { read_preprocessor(json(R"({"letterbox": {"pad_value": 256}})"), {}); }), "must lie between 0 and 255"));
}

TEST_CASE("a choice of precision travels with the weights") {
  const auto network = make_network(json(vit_config));
  const TemporaryFolder folder, chosen;
  save_model(folder.path(), *network, {.size = 16}, {.license = "mit"});
  const std::string layer = "vit.encoder.layer.0.intermediate.dense";
  save_precision(folder.path(), chosen.path(), {.layers = {{"classifier", Precision::int8}}});
  save_precision(chosen.path(), chosen.path(), {.layers = {{layer, Precision::int8}}});  // in its place
  for (const char* file : {"config.json", "preprocessor_config.json"}) CHECK(content_of(chosen / file) == content_of(folder / file));
  const NamedTensors before = read_safetensors(folder / "model.safetensors"), after = read_safetensors(chosen / "model.safetensors");
  CHECK(after.metadata.at("license") == "mit");
  REQUIRE(after.size() == before.size());
  for (const NamedTensor& t : before) CHECK(std::memcmp(t.tensor.raw(), after.at(t.name).raw(), t.tensor.spec().bytes()) == 0);

  using Layers = decltype(PrecisionPolicy::layers);
  struct Row {
    std::string directory;
    std::optional<Precision> asked;
    Precision otherwise;
    Layers layers;
  };
  const Layers stored = {{layer, Precision::int8}};
  const Row rows[] = {{folder.path(), {}, Precision::f32, {}},
                      {folder.path(), Precision::bf16, Precision::bf16, {}},
                      {folder.path(), Precision::int8, Precision::int8, {}},
                      {chosen.path(), {}, Precision::f32, stored},
                      {chosen.path(), Precision::f32, Precision::f32, {}},
                      {chosen.path(), Precision::bf16, Precision::bf16, {}},
                      {chosen.path(), Precision::int8, Precision::f32, stored}};
  for (const Row& row : rows) {
    const Model model = open(row.directory, {.precision = row.asked});
    CHECK(model.runner().precision().otherwise == row.otherwise);
    CHECK(model.runner().precision().layers == row.layers);
    const auto plan = model.runner().plan({1, 16, 16, 3});
    for (std::size_t k = 0; k < plan->precision().size(); ++k) {
      const Node& node = plan->graph().nodes[k];
      if (node.path == layer) CHECK(plan->precision()[k] == (row.layers.empty() ? row.otherwise : Precision::int8));
      if (node.path == "classifier") CHECK(plan->precision()[k] == row.otherwise);
    }
  }
}

TEST_CASE("a choice of precision that cannot be followed is refused with its place") {
  const auto network = make_network(json(vit_config));
  NamedTensors weights = weights_of(*network);
  const auto error_of = [&](const char* choice) {
    weights.metadata[PrecisionPolicy::metadata_key] = choice;
    return error_of_open(files_of(vit_config, weights));
  };
  const std::string place = "model.safetensors: ocellus.precision: ";
  CHECK(error_of("{}") == "accepted");
  CHECK(contains(error_of(R"({"classifier": "int4"})"), place + "classifier: must be f32, bf16 or int8"));
  CHECK(contains(error_of(R"({"classifier": 8})"), place + "classifier: expected a string"));
  CHECK(contains(error_of(R"({"head": "int8"})"), place + "the precision of a layer \"head\" is given, which the vit model does not have"));
  CHECK(contains(error_of("int8"), "model.safetensors: ocellus.precision"));
}

TEST_CASE("saved weights keep their licence") {
  const auto network = make_network(json(vit_config));
  const TemporaryFolder folder;
  save_model(folder.path(), *network, {.size = 16}, {.license = "cc-by-nc-4.0"});
  CHECK(open(folder.path()).license() == "cc-by-nc-4.0");
}

TEST_CASE("variants check what they are asked for") {
  const std::vector<std::string> labels = {"a", "b"};
  CHECK_THROWS_WITH_AS(make_network("vit-tiny", labels, 3, 8, -1), doctest::Contains("must not be smaller than patch_size"), ConfigError);
  CHECK_THROWS_WITH_AS(make_network("lenet", labels, 1, 4, -1), doctest::Contains("image_size must be at least 12"), ConfigError);
  CHECK(make_network("mlp", labels, 3, {5, 7}, -1)->in_channels() == 3);
  const SkipInit skip;
  for (const std::string& name : network_variants()) {
    if (name == "lenet" || name == "mlp" || name.starts_with("vit-") || name.starts_with("segformer-")) continue;
    const auto network = make_network(name, labels, 1, 32, -1);
    JsonWriter text;
    text.begin_object();
    network->write_config(text);
    const std::string variant = json(text.end_object().str()).get<std::string>("variant");
    CHECK((network->task() == Task::detect ? network->model_type() + variant : variant) == name);
    CHECK(network->in_channels() == 1);
    CHECK(network->labels() == labels);
  }
}
