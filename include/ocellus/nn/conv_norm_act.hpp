// Convolution, batch norm, activation: the unit that convolutional networks since 2015 are made of.
#pragma once

#include <ocellus/nn/conv.hpp>
#include <ocellus/nn/norm.hpp>
#include <ocellus/ops/activation.hpp>

namespace ocellus::nn {

struct ConvNormActOptions {
  Size2 stride = 1;
  Index groups = 1;
  Act act = Act::relu;
  BatchNormLayerOptions norm = {};
};

// act(bn(conv(x))), padded by half of the kernel; an odd one takes (N, H, W, in) to (N, ⌈H / stride⌉, ⌈W / stride⌉, out)
struct ConvNormAct : Module<ConvNormAct> {
  Conv2d conv;
  BatchNorm2d bn;
  Act act;

  ConvNormAct(Index in_channels, Index out_channels, Size2 kernel_size, const ConvNormActOptions& o = {})
      : conv(in_channels, out_channels, kernel_size,
             {.stride = o.stride,
              .padding = {kernel_size.h / 2, kernel_size.w / 2},
              .groups = o.groups,
              .bias = false}),
        bn(out_channels, o.norm),
        act(o.act) {}
  Tensor forward(const Tensor& x) const { return activation(bn(conv(x)), act); }
  OCELLUS_MODULE(ConvNormAct, conv, bn)
};

}  // namespace ocellus::nn
