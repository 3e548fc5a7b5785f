// ocellus bench --model DIR --size HxW [--batch N] [--profile]
#include <algorithm>
#include <cstdio>

#include <CLI/CLI.hpp>

#include <ocellus/io/json.hpp>
#include <ocellus/pipeline/label_map.hpp>
#include <ocellus/pipeline/open.hpp>
#include <ocellus/pipeline/preprocessor_config.hpp>
#include <ocellus/runtime/clock.hpp>
#include <ocellus/runtime/parallel.hpp>
#include <ocellus/runtime/random.hpp>

#include "command.hpp"
#include "profile.hpp"

namespace ocellus::cli {
namespace {

struct Options {
  Common common;
  std::string model, size;
  Index batch = 1;
  int runs = 30;
  bool profile = false;
};

struct Stage {
  const char* name;
  std::vector<double> ms = {};

  double quantile(double q) const {
    std::vector<double> sorted = ms;
    std::sort(sorted.begin(), sorted.end());
    return sorted[static_cast<std::size_t>(q * static_cast<double>(sorted.size() - 1) + 0.5)];
  }
};

// Pictures of noise, so that no stage finds an easy one.
std::vector<Image> noise(Index count, Size2 size, Index channels) {
  std::vector<Image> pictures;
  RandomStream random(1);
  for (Index i = 0; i < count; ++i) {
    Image image(size, channels);
    std::uint8_t* pixel = image.writable();
    for (Index j = 0; j < size.h * size.w * channels; ++j) pixel[j] = static_cast<std::uint8_t>(random.bits());
    pictures.push_back(image);
  }
  return pictures;
}

void bench(const Options& o) {
  apply(o.common);
  const Model model = open(o.model, {.precision = o.common.precision});
  const Size2 size = o.size.empty() ? input_size(model.preprocess(), 512) : size_for(model.network(), o.size);
  const Index channels = model.network().in_channels();
  const std::vector<Image> pictures = noise(o.batch, size, channels == 1 ? 1 : 3);
  Tensor input(Shape{o.batch, size.h, size.w, channels});
  RandomStream random(2);
  for (float& x : input) x = random.normal();

  Stage preprocess{"preprocess"}, run{"model"}, postprocess{"postprocess"};
  std::vector<NodeProfile> profile;
  constexpr int warm_up = 3;
  for (int i = 0; i < warm_up + o.runs; ++i) {
    const double t0 = seconds();
    (void)model.prepare(pictures);
    const double t1 = seconds();
    const std::vector<Tensor> outputs = model.runner().outputs(input, o.profile && i >= warm_up ? &profile : nullptr);
    const double t2 = seconds();
    if (model.task() == Task::segment) {
      const Tensor& logits = outputs[0];
      for (Index n = 0; n < o.batch; ++n) {
        const Shape one{1, logits.dim(1), logits.dim(2), logits.dim(3)};
        (void)label_map(Tensor(AnyTensor::borrow({one, DType::f32}, logits.data() + n * one.numel(), logits.storage())), size);
      }
    }
    const double t3 = seconds();
    if (i < warm_up) continue;
    preprocess.ms.push_back(1e3 * (t1 - t0));
    run.ms.push_back(1e3 * (t2 - t1));
    postprocess.ms.push_back(1e3 * (t3 - t2));
  }

  const double macs = model.runner().plan(input.shape())->graph().macs();
  const Stage* stages[] = {&preprocess, &run, &postprocess};
  if (o.common.json) {
    JsonWriter json;
    json.begin_object().field("schema", "ocellus.bench/1").field("model", o.model).field("threads", num_threads());
    json.field("precision", name_of(model.runner().precision().lowest())).field("batch", o.batch).field("size", std::vector<Index>{size.h, size.w}).field("runs", o.runs);
    json.key("ms").begin_object();
    for (const Stage* s : stages) {
      json.key(s->name).begin_object().field("min", s->quantile(0)).field("p50", s->quantile(0.5)).field("p95", s->quantile(0.95));
      json.field("p99", s->quantile(0.99)).end_object();
    }
    json.end_object().field("macs", macs).field("gflops", 2e-6 * macs / run.quantile(0.5)).field("peak_gflops", peak_gflops());
    if (o.profile) write_profile(json, profile, o.runs);
    std::puts(json.end_object().str().c_str());
    return;
  }
  std::printf("%s in %s, input %s, %d threads, %d runs after %d to warm up\n", o.model.c_str(), name_of(model.runner().precision().lowest()),
              input.shape().str().c_str(), num_threads(), o.runs, warm_up);
  std::printf("%-12s %9s %9s %9s %9s  ms\n", "stage", "min", "p50", "p95", "p99");
  for (const Stage* s : stages) {
    std::printf("%-12s %9.2f %9.2f %9.2f %9.2f\n", s->name, s->quantile(0), s->quantile(0.5), s->quantile(0.95), s->quantile(0.99));
  }
  const double gflops = 2e-6 * macs / run.quantile(0.5), peak = peak_gflops();
  std::printf("model: %.3f G multiply-adds after optimisation, %.1f GFLOP/s, %.0f %% of this machine's %.0f\n", macs / 1e9, gflops, 100 * gflops / peak, peak);
  if (o.profile) print_profile(profile, o.runs);
}

}  // namespace

void add_bench(CLI::App& app) {
  CLI::App* command = app.add_subcommand("bench", "How long each stage takes on this machine");
  auto o = std::make_shared<Options>();
  command->add_option("--model", o->model, "model directory")->required();
  command->add_option("--size", o->size, "of the input (default: the model's own)")->check(is_size());
  command->add_option("--batch", o->batch, "pictures at once")->check(CLI::Range(1, 4096));
  command->add_option("--runs", o->runs, "measured runs")->check(CLI::Range(1, 100000));
  command->add_flag("--profile", o->profile, "time, multiply-adds and bytes of every node");
  add_common(*command, o->common);
  command->callback([o] { bench(*o); });
}

}  // namespace ocellus::cli
