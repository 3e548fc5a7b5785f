// Traces, rules and plans: they compute what eager execution computes, allocate nothing, and cost what they should.
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <limits>
#include <new>
#include <thread>

#include <doctest/doctest.h>

#include <ocellus/autograd/backward.hpp>
#include <ocellus/core/error.hpp>
#include <ocellus/graph.hpp>
#include <ocellus/losses.hpp>
#include <ocellus/models/mobilenet_v2.hpp>
#include <ocellus/models/resnet.hpp>
#include <ocellus/models/segformer.hpp>
#include <ocellus/models/vgg.hpp>
#include <ocellus/models/vit.hpp>
#include <ocellus/nn.hpp>
#include <ocellus/ops.hpp>
#include <ocellus/runtime/parallel.hpp>
#include <ocellus/testing/gradcheck.hpp>

using namespace ocellus;

// Every allocation of this program is counted, whichever thread makes it. AddressSanitizer replaces malloc itself, so there, and where
// the C library is not glibc, only the operators are counted; all forms, because AddressSanitizer's own do not call each other.
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
#define COUNT_MALLOC
#endif
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#undef COUNT_MALLOC
#endif
#endif
namespace {
std::atomic<long> allocations{0};
}
#if defined(COUNT_MALLOC)
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t n) {
  ++allocations;
  return __libc_malloc(n);
}
void* calloc(std::size_t n, std::size_t size) {
  ++allocations;
  return __libc_calloc(n, size);
}
void* realloc(void* p, std::size_t n) {
  ++allocations;
  return __libc_realloc(p, n);
}
void* aligned_alloc(std::size_t alignment, std::size_t n) {
  ++allocations;
  return __libc_memalign(alignment, n);
}
void* memalign(std::size_t alignment, std::size_t n) {
  ++allocations;
  return __libc_memalign(alignment, n);
}
int posix_memalign(void** p, std::size_t alignment, std::size_t n) {
  ++allocations;
  *p = __libc_memalign(alignment, n);
  return *p ? 0 : ENOMEM;
}
}
#else
// g++ sees aligned_alloc and free behind the operators and takes them for a mismatch.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"
namespace {
void* take(std::size_t bytes, std::size_t alignment = 16) noexcept {
  ++allocations;
  return std::aligned_alloc(alignment, (bytes + alignment) / alignment * alignment);
}
void* or_throw(void* p) {
  if (!p) throw std::bad_alloc();
  return p;
}
}  // namespace
void* operator new(std::size_t n) { return or_throw(take(n)); }
void* operator new[](std::size_t n) { return or_throw(take(n)); }
void* operator new(std::size_t n, const std::nothrow_t&) noexcept { return take(n); }
void* operator new[](std::size_t n, const std::nothrow_t&) noexcept { return take(n); }
void* operator new(std::size_t n, std::align_val_t a) { return or_throw(take(n, static_cast<std::size_t>(a))); }
void* operator new[](std::size_t n, std::align_val_t a) { return or_throw(take(n, static_cast<std::size_t>(a))); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { std::free(p); }
void operator delete[](void* p, const std::nothrow_t&) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
#endif

namespace {

// A model whose every tensor is random, so that no rule can hide behind a zero or a one.
template <class M>
M randomised(M model) {
  std::uint64_t seed = 100;
  for (const NamedParameter& p : named_parameters(model)) {
    const bool variance = p.name.ends_with("running_var"), scale = p.parameter->rank() == 1 && p.name.ends_with("weight");
    const Index fan_in = p.parameter->rank() > 1 ? p.parameter->numel() / p.parameter->dim(0) : 1;
    const double width = p.parameter->rank() > 1 ? 1.7 / std::sqrt(static_cast<double>(fan_in)) : 0.3;
    const double low = variance ? 0.5 : scale ? 0.7 : -width, high = variance ? 1.5 : scale ? 1.3 : width;
    const Tensor values = random_tensor<float>(p.parameter->shape(), ++seed, low, high);
    std::copy(values.begin(), values.end(), p.parameter->begin());
  }
  return model;
}

int count(const Graph& g, const std::string& op) {
  int n = 0;
  for (const Node& node : g.nodes) n += node.op.info().name() == op;
  return n;
}

Tensor run(const Plan& plan, const Tensor& x) {
  const auto workspace = plan.workspace();
  const AnyTensor inputs[] = {x};
  plan.run(inputs, *workspace);
  return Tensor(workspace->output(0));
}

}  // namespace

TEST_CASE("SegFormer's head folds by rules that know nothing of it") {
  const SegFormer model(SegFormerConfig::b0());
  const Graph g = trace(model, {1, 512, 512, 3});
  const Graph o = optimize(g);
  CHECK(2e-9 * g.macs() == doctest::Approx(16.78).epsilon(0.01));
  CHECK(2e-9 * o.macs() == doctest::Approx(8.19).epsilon(0.01));
  CHECK(count(o, "batch_norm") == 0);
  CHECK(count(o, "concat") == 0);
  CHECK(count(o, "resize") == 3);
  CHECK(count(o, "add") == 0);
  const Plan plan(o);
  CHECK(plan.arena_bytes() < 60e6);
  CHECK(plan.arena_bytes() < plan.value_bytes() / 3);
}

TEST_CASE("a plan computes what eager execution computes, at odd sizes and batches too") {
  const SegFormer model = randomised(SegFormer(SegFormerConfig::b0()));
  const NoGrad no_grad;
  for (const Shape& shape : {Shape{1, 64, 64, 3}, Shape{2, 45, 67, 3}}) {
    const Tensor x = random_tensor<float>(shape, 1);
    const Tensor eager = model(x);
    const Graph g = trace(model, shape);
    CHECK(max_difference(run(Plan(g), x), eager) <= 1e-5 * max_abs(eager));
    CHECK(max_difference(run(Plan(optimize(g)), x), eager) <= 1e-5 * max_abs(eager));
  }
}

TEST_CASE("a convolution takes its batch norm, residual and activation along") {
  const NoGrad no_grad;
  const Tensor x = random_tensor<float>({2, 45, 67, 3}, 1);
  const auto check = [&](const char* name, const auto& model, int convolutions, int linear_maps, int pools) {
    INFO(name);
    const Graph g = optimize(trace(model, x.shape()));
    CHECK(count(g, "conv2d") == convolutions);
    CHECK(count(g, "linear") == linear_maps);
    CHECK(static_cast<int>(g.nodes.size()) == convolutions + linear_maps + pools);
    const Tensor eager = model(x);
    CHECK(max_difference(run(Plan(g), x), eager) <= 1e-5 * max_abs(eager));
  };
  // 1×1 convolutions of stride 1 are linear maps.
  check("resnet18", randomised(ResNet(ResNetConfig::resnet18())), 1 + 8 * 2 + 3, 1, 2);
  check("resnet50", randomised(ResNet(ResNetConfig::resnet50())), 1 + 16 + 3, 16 * 2 + 1 + 1, 2);
  check("mobilenet_v2", randomised(MobileNetV2()), 1 + 17, 16 + 17 + 1 + 1, 1);
  VGGConfig vgg = VGGConfig::vgg11_bn();
  vgg.classifier_size = 64;
  check("vgg11_bn", randomised(VGG(vgg)), 8, 3, 5 + 1);
}

TEST_CASE("the count sees every allocation, on every thread") {
  const auto counted = [](auto&& allocate) {
    const long before = allocations;
    allocate();
    return allocations - before;
  };
  CHECK(counted([] { ::operator delete(::operator new(8)); }) > 0);
  CHECK(counted([] { ::operator delete(::operator new(64, std::align_val_t{64}), std::align_val_t{64}); }) > 0);
  CHECK(counted([] { std::thread([] { std::vector<int>(3).swap(*std::make_unique<std::vector<int>>()); }).join(); }) > 2);
#if defined(COUNT_MALLOC)
  const auto release = [](void* p) {
    asm volatile("" : "+r"(p));  // or the compiler may leave the pair out
    std::free(p);
  };
  CHECK(counted([&] { release(std::malloc(8)); }) == 1);
  CHECK(counted([&] { release(std::calloc(1, 8)); }) == 1);
  CHECK(counted([&] { release(std::aligned_alloc(64, 64)); }) == 1);
  CHECK(counted([&] {
          void* p = nullptr;
          if (posix_memalign(&p, 64, 64) == 0) release(p);
        }) == 1);
#endif
}

TEST_CASE("a run allocates nothing once its workspace exists and every thread has its scratch memory") {
  const auto check = [](const Plan& plan, const Tensor& x) {
    const auto workspace = plan.workspace();
    const AnyTensor inputs[] = {x};
    // The first run shows how much scratch memory a thread needs; each makes room for it when it takes part in the next jobs.
    long before = -1;
    for (int i = 0; i < 10 && allocations != before; ++i) {
      before = allocations;
      plan.run(inputs, *workspace);
    }
    before = allocations;
    for (int i = 0; i < 5; ++i) plan.run(inputs, *workspace);
    CHECK(allocations.load() == before);
  };
  const int threads = num_threads();
  for (const int n : {1, 3}) {
    set_num_threads(n);
    CAPTURE(n);
    const Tensor picture = random_tensor<float>({1, 128, 128, 3}, 1);
    const SegFormer segformer = randomised(SegFormer(SegFormerConfig::b0()));
    check(Plan(optimize(trace(segformer, picture.shape()))), picture);
    ViTConfig small = ViTConfig::tiny();
    small.image_size = 128;
    small.num_hidden_layers = 2;
    const ViT vit = randomised(ViT(small));
    check(Plan(optimize(trace(vit, picture.shape()))), picture);
  }
  set_num_threads(threads);
}

TEST_CASE("a const plan runs in several threads at once") {
  const SegFormer model = randomised(SegFormer(SegFormerConfig::b0()));
  const Tensor x = random_tensor<float>({1, 64, 64, 3}, 1);
  const Plan plan(optimize(trace(model, x.shape())));
  const Tensor expected = run(plan, x);
  double worst[3];
  std::vector<std::thread> threads;
  for (double& w : worst) threads.emplace_back([&] { w = max_difference(run(plan, x), expected); });
  for (std::thread& t : threads) t.join();
  for (double w : worst) CHECK(w == 0);
}

TEST_CASE("a plan refuses inputs of another shape") {
  const Plan plan(trace(nn::Linear(3, 2), {4, 3}));
  const auto workspace = plan.workspace();
  const AnyTensor inputs[] = {Tensor({5, 3})};
  CHECK_THROWS_WITH_AS(plan.run(inputs, *workspace), "plan: input 0 must be f32 (4, 3); got f32 (5, 3); another shape needs another plan", ShapeError);
}

TEST_CASE("summary") {
  const Summary s = summary(nn::Linear(3, 4), {2, 3});
  CHECK(s.parameters == 16);
  CHECK(s.macs == 24);
  REQUIRE(s.rows.size() == 1);
  CHECK(s.rows[0].ops == "linear");
  const Summary b0 = summary(SegFormer(SegFormerConfig::b0()), {1, 64, 64, 3});
  CHECK(b0.parameters == 3752694);
  // As torchvision counts them, multiply-adds of pictures of 224×224 included.
  const SkipInit skip;
  const auto check = [](const auto& model, Index parameters, double giga_macs) {
    const Summary whole = summary(model, {1, 224, 224, 3});
    CHECK(whole.parameters == parameters);
    CHECK(1e-9 * whole.macs == doctest::Approx(giga_macs).epsilon(1e-3));
  };
  check(ResNet(ResNetConfig::resnet18()), 11689512, 1.814);
  check(ResNet(ResNetConfig::resnet50()), 25557032, 4.089);
  check(VGG(VGGConfig::vgg16()), 138357544, 15.470);
  check(MobileNetV2(), 3504872, 0.301);
}

// A whole training step, traced: forward, backward, statistics. Replayed, it gives the bits of the eager loop.
namespace {
struct Net : Module<Net> {
  nn::Conv2d conv{3, 8, 3, {.padding = 1}};
  nn::BatchNorm2d norm{8};
  nn::Dropout dropout{0.25};
  nn::Linear head{8, 4};
  Tensor forward(const Tensor& x) const { return head(dropout(gelu(norm(conv(x))))); }
  OCELLUS_MODULE(Net, conv, norm, head)
};
}  // namespace

TEST_CASE("a traced training step gives the eager gradients, bit for bit") {
  const Net eager = randomised(Net());
  const Net planned = eager;
  const Tensor x = random_tensor<float>({2, 6, 6, 3}, 1), target = random_tensor<float>({2, 6, 6, 4}, 2);
  const auto gradients = [](const Net& net, const Tensor& in, const Tensor& wanted) {
    for (const NamedParameter& p : named_parameters(const_cast<Net&>(net))) {
      if (p.parameter->record()) p.parameter->record()->grad = {};
    }
    const Tensor loss = mse_loss(net(in), wanted);
    backward(loss);
    std::vector<Tensor> list{loss};
    for (const NamedParameter& p : named_parameters(const_cast<Net&>(net))) {
      if (p.parameter->trainable()) list.push_back(p.parameter->grad());
    }
    return list;
  };

  GraphBuilder builder;
  {
    const Tracing tracing(builder);
    const Training training(7, 0);
    for (const NamedParameter& p : named_parameters(const_cast<Net&>(planned))) builder.add_state(*p.parameter);
    const Tensor in(builder.input(x.spec())), wanted(builder.input(target.spec()));
    for (const Tensor& t : gradients(planned, in, wanted)) builder.add_output(t);
  }
  const Plan plan(builder.finish());
  const auto workspace = plan.workspace();
  const AnyTensor inputs[] = {x, target};
  for (std::uint32_t step = 0; step < 3; ++step) {
    const Training training(7, step);
    const std::vector<Tensor> expected = gradients(eager, x, target);
    plan.run(inputs, *workspace);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      CHECK_MESSAGE(max_difference(Tensor(workspace->output(i)), expected[i]) == 0, "step " << step << ", output " << i);
    }
    CHECK(max_difference(planned.norm.running_mean, eager.norm.running_mean) == 0);
  }
}

TEST_CASE("rules keep the names of layers apart") {
  const SegFormer model(SegFormerConfig::b0());
  std::vector<std::string> parameters, layers;
  for (const NamedParameter& p : named_parameters(const_cast<SegFormer&>(model))) parameters.push_back(p.name);
  for (const Node& n : optimize(trace(model, {1, 64, 64, 3})).nodes) {
    if (!n.op.info().pack) continue;
    CHECK_MESSAGE(std::find(parameters.begin(), parameters.end(), n.path + ".weight") != parameters.end(), n.path);
    CHECK_MESSAGE(std::find(layers.begin(), layers.end(), n.path) == layers.end(), "two linear maps are named " << n.path);
    layers.push_back(n.path);
  }
  CHECK(layers.size() == 71);
}

namespace {
// Rules put each activation into the linear map before it; layers of 64 and 32 features have kernels of every precision.
struct Chain : Module<Chain> {
  nn::Linear first{64, 64}, second{64, 64}, last{64, 32};
  std::vector<Tensor> forward(const Tensor& x) const {
    const Tensor a = gelu(first(x)), b = relu(second(a));
    return {a, b, last(b)};
  }
  OCELLUS_MODULE(Chain, first, second, last)
};
}  // namespace

TEST_CASE("a policy sets the precision of the layers that it names and of no other") {
  const Chain chain = randomised(Chain());
  const Tensor x = random_tensor<float>({70, 64}, 1);
  const Graph g = optimize(trace(chain, x.shape()));
  const auto outputs = [&](const Plan& plan) {
    const auto workspace = plan.workspace();
    const AnyTensor inputs[] = {x};
    plan.run(inputs, *workspace);
    return std::vector<Tensor>{Tensor(workspace->output(0)), Tensor(workspace->output(1)), Tensor(workspace->output(2))};
  };
  const std::vector<Tensor> exact = outputs(Plan(g));
  for (const Precision p : {Precision::bf16, Precision::int8}) {
    CAPTURE(std::string(name_of(p)));
    const Plan plan(g, {.layers = {{"second", p}}}), but_one(g, {.otherwise = p, .layers = {{"first", Precision::f32}}});
    CHECK(plan.precision() == std::vector<Precision>{Precision::f32, p, Precision::f32});
    CHECK(but_one.precision() == std::vector<Precision>{Precision::f32, p, p});
    CHECK(plan.describe()[1].precision == p);
    CHECK(plan.describe()[1].bytes < Plan(g).describe()[1].bytes);
    const std::vector<Tensor> y = outputs(plan);
    CHECK(max_difference(y[0], exact[0]) == 0);
    CHECK(max_difference(y[1], exact[1]) > 0);
    CHECK(max_difference(y[1], exact[1]) < 0.05 * max_abs(exact[1]));
    CHECK(max_difference(outputs(but_one)[0], exact[0]) == 0);
  }
  const char* const message = "plan: no layer of the graph with weights to pack is named \"third\"";
  CHECK_THROWS_WITH_AS(Plan(g, {.layers = {{"third", Precision::int8}}}), message, UsageError);
}

TEST_CASE("a policy is text in a checkpoint") {
  const PrecisionPolicy policy{.layers = {{"a.b", Precision::int8}, {"c", Precision::bf16}}};
  CHECK(policy.to_json() == R"({"a.b":"int8","c":"bf16"})");
  CHECK(PrecisionPolicy::from_json(policy.to_json(), "text").layers == policy.layers);
  CHECK(policy.lowest() == Precision::int8);
  CHECK(PrecisionPolicy{}.lowest() == Precision::f32);
  for (const char* text : {"[]", R"({"a": 8})", R"({"a": "int4"})", R"({"a": "int8", "a": "f32"})", "{"}) {
    CHECK_THROWS_AS(PrecisionPolicy::from_json(text, "text"), FileError);
  }
}

TEST_CASE("quantize measures what its choice changes, and stays within the limit") {
  const Chain chain = randomised(Chain());
  const auto graph_of = [&](const Shape& shape) {
    Graph g = optimize(trace(chain, shape));
    g.outputs.erase(g.outputs.begin(), g.outputs.begin() + 2);
    return g;
  };
  const std::vector<Tensor> inputs = {random_tensor<float>({70, 64}, 1), random_tensor<float>({33, 64}, 2), random_tensor<float>({70, 64}, 3)};

  Index calls = 0;
  const Quantization all = quantize(graph_of, inputs, {.runs = 1, .all = true, .progress = [&](Index, Index) { ++calls; }});
  REQUIRE(all.layers.size() == 3);
  CHECK(calls == 3);
  CHECK(all.policy().layers == std::vector<std::pair<std::string, Precision>>{
                                   {"first", Precision::int8}, {"second", Precision::int8}, {"last", Precision::int8}});
  double distance = 0, norm = 0, changed = 0, rows = 0;
  for (const Tensor& x : inputs) {
    const Tensor exact = run(Plan(graph_of(x.shape())), x), y = run(Plan(graph_of(x.shape()), Precision::int8), x);
    for (Index row = 0; row < x.dim(0); ++row) {
      const float *p = exact.data() + row * 32, *q = y.data() + row * 32;
      for (Index j = 0; j < 32; ++j) {
        distance += std::pow(static_cast<double>(q[j] - p[j]), 2);
        norm += std::pow(static_cast<double>(p[j]), 2);
      }
      changed += std::max_element(p, p + 32) - p != std::max_element(q, q + 32) - q;
    }
    rows += static_cast<double>(x.dim(0));
  }
  CHECK(all.change.error == doctest::Approx(std::sqrt(distance / norm)).epsilon(1e-4));
  CHECK(all.change.changed == changed / rows);
  for (const LayerChoice& l : all.layers) {
    CHECK(l.f32 > 0);
    CHECK(l.int8 > 0);
    CHECK(l.change.error > 0);
    CHECK(l.change.error < 2 * all.change.error);
  }

  // What is chosen depends on the machine, what may be chosen does not.
  for (const double most : {0.0, 0.005, 0.999}) {
    const Quantization q = quantize(graph_of, inputs, {.most_changed = most, .runs = 3});
    CHECK(q.change.changed <= most);
    CHECK((q.policy().layers.empty() || q.chosen < q.f32));
    for (const LayerChoice& l : q.layers) CHECK((!l.chosen || l.int8 <= 0.95 * l.f32));
    if (q.policy().layers.empty()) CHECK(q.change.error == 0);
  }
  CHECK_THROWS_AS(quantize(graph_of, {}), UsageError);
  const std::vector<Tensor> damaged = {Tensor::full({70, 64}, std::numeric_limits<float>::quiet_NaN())};
  CHECK_THROWS_WITH_AS(quantize(graph_of, damaged, {.runs = 1}), doctest::Contains("not finite"), Error);
}

TEST_CASE("rules leave a linear map alone that reads another's output in another shape") {
  const NoGrad no_grad;
  const auto same = [](const Tensor& a, const Tensor& b) {
    REQUIRE(a.shape() == b.shape());
    double worst = 0;
    for (Index i = 0; i < a.numel(); ++i) worst = std::max(worst, std::abs(static_cast<double>(a[i] - b[i])));
    CHECK(worst < 1e-5);
  };
  const Tensor x = random_tensor<float>({5, 4}, 1), w1 = random_tensor<float>({8, 4}, 2), w2 = random_tensor<float>({3, 4}, 3);
  const auto reshaped = [&](const Tensor& t) { return linear(reshape(linear(t, w1), {10, 4}), w2); };
  same(run(Plan(optimize(trace(reshaped, x.shape()))), x), reshaped(x));

  const Tensor one = Tensor::full({2}, 1.5f), half = Tensor::full({2}, 0.5f);
  const auto normed = [&](const Tensor& t) {
    return batch_norm(reshape(linear(t, w1), {5, 2, 2, 2}), one, half, half, one);
  };
  same(run(Plan(optimize(trace(normed, x.shape()))), x), normed(x));

  const Tensor image = random_tensor<float>({1, 4, 4, 4}, 4), w3 = random_tensor<float>({16, 16}, 5);
  const auto resized = [&](const Tensor& t) { return linear(reshape(resize(t, {8, 8}), {1, 4, 4, 16}), w3); };
  same(run(Plan(optimize(trace(resized, image.shape()))), image), resized(image));
}

TEST_CASE("one constant that two calls pack differently is packed twice") {
  const NoGrad no_grad;
  const auto check = [](const auto& model, const Tensor& x) {
    const Tensor expected = model(x), got = run(Plan(trace(model, x.shape())), x);
    REQUIRE(got.shape() == expected.shape());
    for (Index i = 0; i < got.numel(); ++i) REQUIRE(got[i] == doctest::Approx(expected[i]).epsilon(1e-4));
  };
  const Tensor w = random_tensor<float>({64, 32}, 1), kernel = random_tensor<float>({16, 3, 3, 8}, 2);
  check([&](const Tensor& x) { return linear(relu(linear(x, w)), reshape(w, {32, 64})); }, random_tensor<float>({5, 32}, 3));
  check(
      [&](const Tensor& x) {
        const Tensor grouped = conv2d(x, kernel, Tensor(), {.groups = 2});
        return concat<float>({grouped, conv2d(slice(x, -1, 0, 8), kernel, Tensor(), {.groups = 1})}, -1);
      },
      random_tensor<float>({1, 6, 6, 16}, 4));
}

namespace {

// A mixed FFN, an inverted residual with a stride, and a sum of resized maps.
struct Strips {
  Tensor wide = random_tensor<float>({96, 48}, 1), narrow = random_tensor<float>({48, 96}, 2), bias = random_tensor<float>({96}, 3);
  Tensor filter = random_tensor<float>({96, 3, 3, 1}, 4), filter5 = random_tensor<float>({96, 5, 5, 1}, 5);
  Tensor scale = random_tensor<float>({48}, 6), shift = random_tensor<float>({48}, 7);

  Tensor feed_forward(const Tensor& x) const {
    const Tensor a = linear(layer_norm(x, scale, shift), wide, bias);
    const Tensor b = gelu(conv2d(a, filter, bias, {.padding = 1, .groups = 96}));
    return linear(b, narrow) + x;
  }
  Tensor inverted_residual(const Tensor& x) const {
    const Tensor a = relu6(linear(x, wide, bias));
    const Tensor b = relu6(conv2d(a, filter5, {}, {.stride = 2, .padding = 2, .groups = 96}));
    return linear(b, narrow);
  }
  Tensor sum_of_resized(const Tensor& x) const {
    const Tensor a = linear(x, wide, bias);
    const Tensor b = resize(linear(max_pool2d(x, {.kernel_size = 4}), wide), {x.dim(1), x.dim(2)});
    const Tensor c = resize(linear(max_pool2d(x, {.kernel_size = 2}), wide), {x.dim(1), x.dim(2)}, {.mode = ResizeMode::bicubic});
    return linear(relu(a + b + c), narrow);
  }
};

}  // namespace

TEST_CASE("strips compute what whole nodes do, with the same bits on any number of threads") {
  using Block = Tensor (Strips::*)(const Tensor&) const;
  const struct {
    const char* name;
    Block block;
    std::size_t nodes;  // of the group
  } rows[] = {{"feed forward", &Strips::feed_forward, 4}, {"inverted residual", &Strips::inverted_residual, 3}, {"sum of resized", &Strips::sum_of_resized, 2}};
  const Strips model;
  const NoGrad no_grad;
  for (const auto& row : rows) {
    for (const Shape& shape : {Shape{1, 64, 64, 48}, Shape{2, 61, 45, 48}, Shape{1, 7, 900, 48}}) {
      CAPTURE(row.name);
      CAPTURE(shape.str());
      const Tensor x = random_tensor<float>(shape, 8);
      const Plan cut(optimize(trace([&](const Tensor& t) { return (model.*row.block)(t); }, shape)));
      REQUIRE(cut.strip_groups().size() >= 1);
      CHECK(cut.strip_groups()[0].nodes.size() >= row.nodes);
      const Tensor expected = (model.*row.block)(x);
      const Tensor one = run(cut, x);
      CHECK(max_difference(one, expected) <= 1e-5 * max_abs(expected));
      const int threads = num_threads();
      for (int n : {1, 2, 3}) {
        set_num_threads(n);
        CHECK(max_difference(run(cut, x), one) == 0);
      }
      set_num_threads(threads);
    }
  }
}
