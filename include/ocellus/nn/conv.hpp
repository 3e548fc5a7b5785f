// Convolution layers. Images are (N, H, W, C); weights lie as (out, kh, kw, in / groups) in memory and as PyTorch has them in files.
#pragma once

#include <ocellus/core/error.hpp>
#include <ocellus/nn/init.hpp>
#include <ocellus/nn/module.hpp>
#include <ocellus/ops/conv.hpp>

namespace ocellus::nn {

// The channels of one group. Throws ConfigError unless the groups divide them.
OCELLUS_COLD inline Index group_channels(const char* layer, Index channels, Index groups) {
  if (groups < 1 || channels % groups != 0) {
    throw ConfigError(std::string(layer) + ": groups must divide the channels; got groups=" + std::to_string(groups) +
                      ", channels=" + std::to_string(channels));
  }
  return channels / groups;
}

struct Conv2dLayerOptions {
  Size2 stride = 1, padding = 0, dilation = 1;
  Index groups = 1;
  bool bias = true;
};

// (N, H, W, in) → (N, H', W', out)
struct Conv2d : Module<Conv2d> {
  Parameter weight, bias;
  Conv2dOptions options;

  Conv2d(Index in_channels, Index out_channels, Size2 kernel_size, const Conv2dLayerOptions& o = {})
      : weight(Shape{out_channels, kernel_size.h, kernel_size.w, group_channels("conv2d", in_channels, o.groups)}),
        bias(o.bias ? Parameter(Shape{out_channels}) : Parameter()),
        options{.stride = o.stride, .padding = o.padding, .dilation = o.dilation, .groups = o.groups} {
    group_channels("conv2d", out_channels, o.groups);
    weight.set_file_view({out_channels, in_channels / o.groups, kernel_size.h, kernel_size.w});
    const Index fan_in = in_channels / o.groups * kernel_size.h * kernel_size.w;
    init::fan_in_uniform(weight, fan_in);
    init::fan_in_uniform(bias, fan_in);
  }
  Tensor forward(const Tensor& x) const { return conv2d<float>(x, weight, bias, options); }
  OCELLUS_MODULE(Conv2d, weight, bias)
};

struct ConvTranspose2dLayerOptions {
  Size2 stride = 1, padding = 0, output_padding = 0, dilation = 1;
  Index groups = 1;
  bool bias = true;
};

// (N, H, W, in) → (N, H', W', out), H' = (H − 1) stride − 2 padding + dilation (kernel − 1) + output_padding + 1
struct ConvTranspose2d : Module<ConvTranspose2d> {
  Parameter weight, bias;  // (in, kh, kw, out / groups), (out)
  ConvTranspose2dOptions options;

  ConvTranspose2d(Index in_channels, Index out_channels, Size2 kernel_size, const ConvTranspose2dLayerOptions& o = {})
      : weight(Shape{in_channels, kernel_size.h, kernel_size.w, group_channels("conv_transpose2d", out_channels, o.groups)}),
        bias(o.bias ? Parameter(Shape{out_channels}) : Parameter()),
        options{.stride = o.stride, .padding = o.padding, .output_padding = o.output_padding, .dilation = o.dilation, .groups = o.groups} {
    group_channels("conv_transpose2d", in_channels, o.groups);
    weight.set_file_view({in_channels, out_channels / o.groups, kernel_size.h, kernel_size.w});
    const Index fan_in = out_channels / o.groups * kernel_size.h * kernel_size.w;  // as PyTorch counts it
    init::fan_in_uniform(weight, fan_in);
    init::fan_in_uniform(bias, fan_in);
  }
  Tensor forward(const Tensor& x) const { return conv_transpose2d<float>(x, weight, bias, options); }
  OCELLUS_MODULE(ConvTranspose2d, weight, bias)
};

}  // namespace ocellus::nn
