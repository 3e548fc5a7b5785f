// Optimizers, clipping and schedules against PyTorch's numbers; state, groups, tied and frozen parameters, averages of
// weights.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>

#include <ocellus/autograd.hpp>
#include <ocellus/core.hpp>
#include <ocellus/graph/plan.hpp>
#include <ocellus/io/safetensors.hpp>
#include <ocellus/losses.hpp>
#include <ocellus/ops/activation.hpp>
#include <ocellus/ops/dropout.hpp>
#include <ocellus/ops/elementwise.hpp>
#include <ocellus/ops/linear.hpp>
#include <ocellus/ops/reduce.hpp>
#include <ocellus/optim.hpp>
#include <ocellus/testing/gradcheck.hpp>

using namespace ocellus;

namespace {

const NamedTensors& golden() {
  static const NamedTensors file = read_safetensors(OCELLUS_TEST_DIR "/golden/ops.safetensors");
  return file;
}

bool same(const Tensor& a, const Tensor& b) {
  return std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.numel()) * sizeof(float)) == 0;
}

// Gives a parameter this gradient, through the door: d/dp Σ p g.
void set_gradient(Parameter& p, const Tensor& g) {
  p.record()->grad = {};
  backward(p * g, Tensor::full(p.shape(), 1));
}

Parameter parameter_of(const Tensor& values) {
  Parameter p(values.shape());
  std::copy(values.begin(), values.end(), p.begin());
  return p;
}

Tensor row(const Tensor& x, Index i) {
  const Index n = x.dim(1);
  Tensor y({n});
  std::copy_n(x.data() + i * n, n, y.data());
  return y;
}

// A model with one matrix, one bias and one buffer.
struct Model {
  Parameter weight{Shape{4, 3}};
  Parameter bias{Shape{4}};
  Parameter mean = Parameter::buffer({4}, 2);

  Model() {
    for (Index i = 0; i < 12; ++i) weight[i] = 0.1f * static_cast<float>(i) - 0.5f;
    for (Index i = 0; i < 4; ++i) bias[i] = static_cast<float>(i);
  }
  std::vector<NamedParameter> parameters() { return {{"weight", &weight}, {"bias", &bias}, {"mean", &mean}}; }
  void gradients(std::uint64_t seed) {
    set_gradient(weight, random_tensor<float>({4, 3}, seed));
    set_gradient(bias, random_tensor<float>({4}, seed + 100));
  }
};

void check_rates(const char* name, const Schedule& schedule) {
  const Tensor expected(golden().at(std::string("schedule.") + name + ".lr"));
  Tensor ours(expected.shape());
  for (Index t = 0; t < ours.numel(); ++t) ours[t] = static_cast<float>(schedule.at(t));
  CHECK_MESSAGE(max_difference(ours, expected) <= 1e-8, std::string(name));
}

}  // namespace

TEST_CASE("six steps of every optimizer equal PyTorch") {
  using Groups = std::vector<NamedParameter>;
  struct Row {
    const char* name;
    std::unique_ptr<Optimizer> (*make)(const Groups&);
  };
  const Row rows[] = {
      {"adamw",
       [](const Groups& p) -> std::unique_ptr<Optimizer> {
         return std::make_unique<AdamW>(p, AdamWOptions{.learning_rate = 0.01, .beta2 = 0.99, .weight_decay = 0.1});
       }},
      {"adam",
       [](const Groups& p) -> std::unique_ptr<Optimizer> {
         return std::make_unique<Adam>(p, AdamOptions{.learning_rate = 0.01, .eps = 1e-3, .weight_decay = 0.1});
       }},
      {"sgd",
       [](const Groups& p) -> std::unique_ptr<Optimizer> {
         return std::make_unique<SGD>(p, SGDOptions{.learning_rate = 0.05});
       }},
      {"sgd_momentum",
       [](const Groups& p) -> std::unique_ptr<Optimizer> {
         return std::make_unique<SGD>(p, SGDOptions{.learning_rate = 0.05, .momentum = 0.9, .weight_decay = 0.02});
       }},
      {"sgd_nesterov",
       [](const Groups& p) -> std::unique_ptr<Optimizer> {
         return std::make_unique<SGD>(
             p, SGDOptions{.learning_rate = 0.05, .momentum = 0.9, .weight_decay = 0.02, .nesterov = true});
       }},
  };
  for (const Row& r : rows) {
    const std::string prefix = std::string("optimizer.") + r.name + ".";
    Parameter p = parameter_of(Tensor(golden().at(prefix + "parameter")));
    const Tensor gradients(golden().at(prefix + "gradients")), expected(golden().at(prefix + "parameters"));
    const auto optimizer = r.make({{"p", &p}});
    double worst = 0;
    for (Index step = 0; step < 6; ++step) {
      set_gradient(p, row(gradients, step));
      optimizer->step();
      worst = std::max(worst, max_difference(static_cast<const Tensor&>(p), row(expected, step)));
    }
    CHECK_MESSAGE(worst <= 1e-6, std::string(r.name) << " is off by " << worst);
  }
}

TEST_CASE("dampening leaves the first step alone") {
  Parameter p = parameter_of(Tensor({1}, {1}));
  SGD optimizer(std::vector<NamedParameter>{{"p", &p}}, {.learning_rate = 1, .momentum = 0.5, .dampening = 0.25});
  set_gradient(p, Tensor({1}, {0.5f}));
  optimizer.step();
  CHECK(p[0] == 0.5f);  // v = g
  set_gradient(p, Tensor({1}, {0.4f}));
  optimizer.step();
  CHECK(p[0] == doctest::Approx(0.5 - (0.5 * 0.5 + 0.75 * 0.4)));
  CHECK_THROWS_AS(SGD(std::vector<NamedParameter>{}, {.nesterov = true}), UsageError);
}

TEST_CASE("groups: decay for matrices only, rates by group") {
  Model m;
  m.gradients(1);
  const Tensor weight = m.weight.clone(), bias = m.bias.clone(), mean = m.mean.clone();
  auto groups = decay_groups(m.parameters());
  groups[1].learning_rate_scale = 10;
  SGD optimizer(groups, {.learning_rate = 0.1, .weight_decay = 0.5});
  optimizer.step();
  Tensor expected_weight({4, 3}), expected_bias({4});
  for (Index i = 0; i < 12; ++i) expected_weight[i] = weight[i] - 0.1f * (m.weight.grad()[i] + 0.5f * weight[i]);
  for (Index i = 0; i < 4; ++i) expected_bias[i] = bias[i] - 1.0f * m.bias.grad()[i];
  CHECK(max_difference(static_cast<const Tensor&>(m.weight), expected_weight) <= 1e-6);
  CHECK(max_difference(static_cast<const Tensor&>(m.bias), expected_bias) <= 1e-6);
  CHECK(same(m.mean, mean));
}

TEST_CASE("parameters without a gradient, frozen ones and zero_grad") {
  Model m;
  AdamW optimizer(m.parameters());
  const Tensor before = m.bias.clone();
  set_gradient(m.weight, Tensor::full({4, 3}, 1));
  optimizer.step();
  CHECK(same(m.bias, before));
  CHECK(BasicTensor<std::int64_t>(optimizer.state().at("weight.step")).item() == 1);
  CHECK(BasicTensor<std::int64_t>(optimizer.state().at("bias.step")).item() == 0);
  optimizer.zero_grad();
  CHECK_FALSE(m.weight.grad());
  const Tensor held = m.weight.clone();
  optimizer.step();
  CHECK(same(m.weight, held));
  m.weight.set_trainable(false);
  optimizer.zero_grad();
  optimizer.step();
  CHECK(same(m.weight, held));
}

TEST_CASE("a parameter named twice is updated once") {
  Parameter p = parameter_of(Tensor({2}, {1, 2}));
  SGD optimizer(std::vector<NamedParameter>{{"a", &p}, {"b", &p}}, {.learning_rate = 1});
  set_gradient(p, Tensor({2}, {0.5f, 0.5f}));
  optimizer.step();
  CHECK(max_difference(static_cast<const Tensor&>(p), Tensor({2}, {0.5f, 1.5f})) == 0);
  CHECK(optimizer.state().size() == 1);
}

TEST_CASE("a resumed optimizer continues bit for bit") {
  const auto run = [](Model& m, Optimizer& o, int from, int to) {
    for (int i = from; i < to; ++i) {
      m.gradients(static_cast<std::uint64_t>(i));
      o.step();
    }
  };
  Model whole;
  AdamW one(whole.parameters(), {.learning_rate = 0.1});
  run(whole, one, 0, 6);

  Model half;
  AdamW first(half.parameters(), {.learning_rate = 0.1});
  run(half, first, 0, 3);
  const Bytes file = to_safetensors_bytes(first.state());
  Model resumed = half;
  AdamW second(resumed.parameters(), {.learning_rate = 0.1});
  second.load_state(read_safetensors(file, "state"));
  run(resumed, second, 3, 6);
  CHECK(same(resumed.weight, whole.weight));
  CHECK(same(resumed.bias, whole.bias));

  SGD other(resumed.parameters(), {.momentum = 0.9});
  CHECK_THROWS_AS(other.load_state(first.state()), ConfigError);
  NamedTensors extra = first.state();
  extra.add("more", Tensor({1}));
  CHECK_THROWS_AS(second.load_state(extra), ConfigError);
}

TEST_CASE("a backward after the step is refused") {
  Parameter p = parameter_of(Tensor({2}, {1, 2}));
  SGD optimizer(std::vector<NamedParameter>{{"p", &p}});
  const Tensor y = sum(square(static_cast<const Tensor&>(p)));
  set_gradient(p, Tensor({2}, {1, 1}));
  optimizer.step();
  CHECK_THROWS_AS(backward(y), UsageError);
}

TEST_CASE("a step is a sequence of ops that a tracer sees") {
  Model m;
  AdamW adamw(m.parameters());
  SGD sgd(m.parameters());
  m.gradients(1);
  GraphBuilder builder;
  for (const AnyTensor& t : adamw.state_tensors()) builder.add_state(t);
  const Tensor before = m.weight.clone();
  {
    const Tracing tracing(builder);
    adamw.update();
    sgd.update();
  }
  const Graph graph = builder.finish();
  CHECK(graph.nodes.size() == 4);
  CHECK(std::string(graph.nodes[0].op.info().signature) == "adam_step(weight, gradient, first, second, clock)");
  CHECK(std::string(graph.nodes[2].op.info().signature) == "sgd_step(weight, gradient, velocity, clock)");
  CHECK(same(m.weight, before));
}

TEST_CASE("a traced and planned training step equals the eager one bit for bit") {
  using Labels = BasicTensor<std::int64_t>;
  const Tensor x = random_tensor<float>({5, 3}, 7);
  const Labels labels({5}, {0, 3, 1, 2, 3});
  const auto loss_of = [](const Model& m, const Tensor& input, const Labels& target) {
    return cross_entropy(dropout(gelu(linear(input, m.weight, m.bias)), 0.25), target, {.label_smoothing = 0.1});
  };
  const auto optimizers = {
      +[](Model& m) -> std::unique_ptr<Optimizer> { return std::make_unique<AdamW>(m.parameters()); },
      +[](Model& m) -> std::unique_ptr<Optimizer> {
        return std::make_unique<SGD>(m.parameters(),
                                     SGDOptions{.momentum = 0.9, .dampening = 0.1, .weight_decay = 0.01});
      }};
  for (const auto& make : optimizers) {
    const Schedule schedule{.kind = ScheduleKind::cosine, .learning_rate = 0.1, .total_steps = 4};
    Model eager;
    const auto eager_optimizer = make(eager);
    std::vector<float> losses;
    for (std::uint32_t step = 0; step < 4; ++step) {
      const Training training(3, step);
      const Tensor loss = loss_of(eager, x, labels);
      eager_optimizer->zero_grad();
      backward(loss);
      eager_optimizer->set_learning_rate(schedule.at(step));
      eager_optimizer->step();
      losses.push_back(loss.item());
    }

    Model planned;
    const auto optimizer = make(planned);
    GraphBuilder builder;
    for (const AnyTensor& t : optimizer->state_tensors()) builder.add_state(t);
    {
      const Training training(3);
      const Tracing tracing(builder);
      const Tensor input(builder.input(x.spec()));
      const Labels target(builder.input(labels.spec()));
      const Tensor loss = loss_of(planned, input, target);
      backward(loss);
      optimizer->update();
      builder.add_output(loss);
    }
    const Plan plan(builder.finish());
    const auto workspace = plan.workspace();
    const AnyTensor inputs[] = {x, labels};
    for (std::uint32_t step = 0; step < 4; ++step) {
      optimizer->set_learning_rate(schedule.at(step));
      optimizer->advance();
      plan.run(inputs, *workspace);
      CHECK(Tensor(workspace->output(0)).item() == losses[step]);
    }
    CHECK(same(planned.weight, eager.weight));
    CHECK(same(planned.bias, eager.bias));
  }
}

TEST_CASE("optimizer steps are not differentiable and check sizes") {
  Parameter p = parameter_of(Tensor({2}, {1, 2}));
  p.record()->grad = Tensor({3});
  SGD optimizer(std::vector<NamedParameter>{{"p", &p}});
  CHECK_THROWS_WITH_AS(
      optimizer.step(),
      "sgd_step: weight, gradient and moments must be of one size; got weight=(2), gradient=(3), clock=(2)",
      ShapeError);
}

TEST_CASE("clip_grad_norm equals PyTorch") {
  for (const char* name : {"clips", "leaves"}) {
    const std::string prefix = std::string("clip_gradient_norm.") + name + ".";
    Parameter a(Shape{4}), b(Shape{2, 3});
    set_gradient(a, Tensor(golden().at(prefix + "gradient.0")));
    set_gradient(b, Tensor(golden().at(prefix + "gradient.1")));
    const double norm = clip_grad_norm({{"a", &a}, {"b", &b}}, std::string(name) == "clips" ? 1.0 : 100.0);
    CHECK(norm == doctest::Approx(static_cast<double>(Tensor(golden().at(prefix + "norm")).item())).epsilon(1e-6));
    CHECK(max_difference(a.grad(), Tensor(golden().at(prefix + "clipped.0"))) <= 1e-7);
    CHECK(max_difference(b.grad(), Tensor(golden().at(prefix + "clipped.1"))) <= 1e-7);
  }
  Parameter broken(Shape{2});
  set_gradient(broken, Tensor({2}, {1, std::numeric_limits<float>::infinity()}));
  CHECK(std::isinf(clip_grad_norm({{"p", &broken}}, 1)));
  CHECK(broken.grad()[0] == 1);
}

TEST_CASE("schedules equal PyTorch and transformers") {
  check_rates("cosine_annealing",
              {.kind = ScheduleKind::cosine, .learning_rate = 0.1, .total_steps = 20, .final_rate = 0.01});
  check_rates("polynomial", {.kind = ScheduleKind::polynomial, .learning_rate = 0.1, .total_steps = 20, .power = 0.9});
  check_rates("cosine_with_warmup",
              {.kind = ScheduleKind::cosine, .learning_rate = 0.1, .total_steps = 20, .warmup_steps = 5});
  check_rates("polynomial_with_warmup", {.kind = ScheduleKind::polynomial,
                                         .learning_rate = 0.1,
                                         .total_steps = 20,
                                         .warmup_steps = 5,
                                         .final_rate = 1e-4,
                                         .power = 0.9});
  const Schedule steps{.kind = ScheduleKind::step, .learning_rate = 1, .warmup_steps = 2, .period = 3, .gamma = 0.5};
  const double expected[] = {0, 0.5, 1, 1, 1, 0.5, 0.5, 0.5, 0.25};
  for (Index t = 0; t < 9; ++t) CHECK(steps.at(t) == expected[t]);
  const Schedule constant{.learning_rate = 0.2, .warmup_steps = 4};
  CHECK(constant.at(1) == doctest::Approx(0.05));
  CHECK(constant.at(1000) == 0.2);
  CHECK(schedule_kind("polynomial") == ScheduleKind::polynomial);
  CHECK_THROWS_AS(schedule_kind("linear"), ConfigError);
}

TEST_CASE("ReduceOnPlateau waits, then reduces") {
  ReduceOnPlateau plateau({.factor = 0.5, .patience = 1, .minimum_rate = 0.3});
  const double losses[] = {1.0, 0.9, 0.9, 0.9, 0.95, 0.8, 0.85, 0.85};
  const double expected[] = {1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.3};
  double rate = 1;
  for (int i = 0; i < 8; ++i) {
    rate = plateau.observe(losses[i], rate);
    CHECK(rate == expected[i]);
  }
  ReduceOnPlateau higher({.factor = 0.1, .patience = 0, .higher_is_better = true});
  CHECK(higher.observe(0.5, 1) == 1);
  CHECK(higher.observe(0.6, 1) == 1);
  CHECK(higher.observe(0.6, 1) == doctest::Approx(0.1));
}

TEST_CASE("the average of weights") {
  Model m;
  Ema ema(m.parameters(), {.decay = 0.5});
  std::vector<double> twin(12);
  for (Index i = 0; i < 12; ++i) twin[static_cast<std::size_t>(i)] = static_cast<double>(m.weight[i]);
  for (int t = 0; t < 12; ++t) {
    const double decay = std::min(0.5, (1.0 + t) / (10.0 + t));
    CHECK(ema.decay() == decay);
    for (float& w : m.weight) w += 0.25f;
    ema.update();
    for (Index i = 0; i < 12; ++i) {
      double& a = twin[static_cast<std::size_t>(i)];
      a += (1 - decay) * (static_cast<double>(m.weight[i]) - a);
    }
  }
  const Tensor trained = m.weight.clone();
  const NamedTensors state = ema.state();
  ema.swap();
  double worst = 0;
  for (Index i = 0; i < 12; ++i)
    worst = std::max(worst, std::abs(static_cast<double>(m.weight[i]) - twin[static_cast<std::size_t>(i)]));
  CHECK(worst <= 1e-6);
  ema.swap();
  CHECK(same(m.weight, trained));

  Model other;
  Ema loaded(other.parameters(), {.decay = 0.5});
  loaded.load_state(state);
  CHECK(loaded.decay() == ema.decay());
  loaded.swap();
  CHECK(same(other.weight, Tensor(state.at("weight"))));
  NamedTensors incomplete;
  incomplete.add("weight", other.weight);
  CHECK_THROWS_AS(loaded.load_state(incomplete), ConfigError);
}
