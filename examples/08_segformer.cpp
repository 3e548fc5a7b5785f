// 08 · SegFormer, the whole path in one file
//
// Train on street scenes, save, open again as a product would, segment a picture, look at it. With CamVid this is a short run that shows
// that learning works; the demo's weights come from a longer one of the same kind (see README). Without CamVid it learns drawn scenes:
// sky, road and a car.
//
// Run:      OCELLUS_DATA=… ./08_segformer [overlay.png]
// Expected: within 40 steps the loss falls by a fifth on CamVid, below half on drawn scenes; the opened model gives the very pixels of
//           the saved one; writes 08_overlay.png.
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>

#include <ocellus/ocellus.hpp>

#include "expect.hpp"

using namespace ocellus;

// Streets as a child draws them: sky above, road below, a red car somewhere on it.
class DrawnStreets : public Dataset {
 public:
  Index size() const override { return 64; }
  std::string name(Index i) const override { return "drawn street " + std::to_string(i); }
  const std::vector<std::string>& classes() const override { return names_; }
  Sample get(Index i) const override {
    RandomStream random(static_cast<std::uint64_t>(i));
    const Index side = 128, horizon = 48 + random.below(32), x = random.below(96), y = horizon + random.below(20);
    Sample s{Image({side, side}, 3), Image({side, side}, 1)};
    const auto shade = [&](int base) { return static_cast<std::uint8_t>(base + static_cast<int>(random.below(30))); };
    fill_rectangle(s.image, 0, 0, side - 1, horizon, {shade(90), shade(140), shade(210)});
    fill_rectangle(s.image, 0, horizon, side - 1, side - 1, {shade(90), shade(90), shade(90)});
    fill_rectangle(s.image, x, y, x + 31, y + 17, {shade(190), shade(20), shade(20)});
    std::uint8_t* label = s.mask.writable();
    for (Index p = 0; p < side * side; ++p) {
      const Index py = p / side, px = p % side;
      const bool car = px >= x && px <= x + 31 && py >= y && py <= y + 17;
      label[p] = car ? 2 : py < horizon ? 0 : 1;
    }
    return s;
  }

 private:
  std::vector<std::string> names_ = {"Sky", "Road", "Car"};
};

int main(int argc, char** argv) {
  const char* root = std::getenv("OCELLUS_DATA");
  std::shared_ptr<const Dataset> dataset = std::make_shared<DrawnStreets>();
  if (root) {
    dataset = open_segmentation(std::string(root) + "/camvid", "train",
                                {.classes = {"Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist"},
                                 .ignore_index = 11});
  } else {
    std::puts("OCELLUS_DATA is not set: drawn streets instead of CamVid");
  }

  std::puts("Train: the model, the data, forty steps");
  manual_seed(1);
  const auto network = make_network("segformer-b0", dataset->classes(), 3, 128, 255);
  TrainOptions options;
  options.max_steps = 40;
  options.batch = 4;
  options.size = 128;
  options.learning_rate = 1e-3;
  options.keep_memory = true;
  options.augmentations = segmentation_augmentations(options.size);
  double first = 0, last = 0;
  train_segmenter(*network, dataset, options, [&](const TrainProgress& p) {
    if (p.step == 1) first = p.loss;
    last += p.step > p.total_steps - 8 ? p.loss / 8 : 0;
    if (p.step % 8 == 0) std::printf("  step %2lld  loss %.3f\n", static_cast<long long>(p.step), p.loss);
    return true;
  });
  expect_at_least("first loss / mean of the last eight", first / last, root ? 1.25 : 2);

  std::puts("Save, and open as a product would: three files, no Python");
  const std::string folder = (std::filesystem::temp_directory_path() / "ocellus_08_segformer").string();
  std::filesystem::create_directories(folder);
  save_model(folder, *network, {.size = 128});
  const Model model = open(folder);
  const Image picture = dataset->get(0).image;
  const SegmentResult result = model.segment(picture);
  std::printf("  %.1f ms in the model\n", result.ms.model);
  for (const ClassShare& c : result.classes) std::printf("  %5.1f %%  %s\n", 100 * c.share, c.name.c_str());

  const Model kept(std::shared_ptr<Network>(network->clone()), model.preprocess(), "kept in memory");
  Index different = 0;
  const SegmentResult again = kept.segment(picture);
  for (Index i = 0; i < again.labels.numel(); ++i) different += again.labels[i] != result.labels[i];
  expect("pixels that differ after saving and opening", static_cast<double>(different), 0, 0);

  const char* path = argc > 1 ? argv[1] : "08_overlay.png";
  result.save_overlay(path);
  std::printf("What it sees: %s\n", path);
  return 0;
}
