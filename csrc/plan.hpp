// A network's layers in order, each on views of one block of memory and of the caller's arrays.
//
// Whoever builds a plan decides where every map lies (medseg_fast/nn/_optimize): steps only know
// slots, which `run` gives addresses. Weights are packed when a step is added, so that running
// allocates nothing but what layers keep for a thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "array.hpp"
#include "convolution.hpp"
#include "plan_layers.hpp"

namespace msf {

// Features `offset` bytes into the memory of a slot.
struct View {
  std::int64_t slot = 0, offset = 0;
  Features features;  // data: unused
};

class Plan {
 public:
  using Slots = std::vector<Array>;

  // Steps with the same numbers and the same weights, at the same address, share packed weights:
  // both must stay where they are until the plan is complete.
  void convolution(const ConvolutionSpec& spec, const Array& weight, const Array& bias,
                   Algorithm algorithm,
                   const std::vector<View>& in,  // maps whose channels follow one another
                   const std::optional<View>& full, const std::optional<View>& pooled,
                   const std::optional<View>& indices,
                   const std::vector<std::int64_t>& phases,  // empty, or as of ConvolutionOutputs
                   const Quantisation& steps = {});          // scale 0: of floats
  void pointwise(PointwiseSpec spec, const View& in, const std::optional<View>& second,
                 const View& out);
  void pool(const PoolSpec& spec, const View& in, const View& out,
            const std::optional<View>& indices);
  void unpool(const Size3& step, const View& in, const View& indices, const View& out);
  void resize(std::array<Stretch, 3> axes, const View& in, const View& out);
  void gather(std::array<std::vector<std::int64_t>, 3> maps, float fill, const View& in,
              const View& out);
  void adaptive_means(const View& in, const View& out);
  void normalise(std::int64_t groups, float eps, PointwiseSpec after, const View& in,
                 const View& out);
  void softmax(const View& in, const View& out);
  void attention(std::int64_t heads, float scale, const View& queries, const View& keys,
                 const View& values, const View& out);

  // Steps [begin, end) on so many threads; 0: the setting.
  void run(std::int64_t begin, std::int64_t end, int threads, const Slots& slots) const;
  std::int64_t count() const { return static_cast<std::int64_t>(steps_.size()); }
  std::int64_t packed_bytes() const { return packed_bytes_; }

 private:
  using Step = std::function<void(const Slots&)>;
  struct Packed {
    ConvolutionSpec spec;
    const float *weight, *bias;
    Algorithm algorithm;
    float scale;
    std::shared_ptr<Convolution> layer;
  };
  std::shared_ptr<Convolution> packed(const ConvolutionSpec& spec, const float* weight,
                                      const float* bias, Algorithm algorithm,
                                      const Quantisation& steps);
  void add(Step step) { steps_.push_back(std::move(step)); }
  // These note how much memory the slots of views must have.
  void known(const View& view);
  void known_indices(const View& view);
  // Of a layer that wants channels innermost: as many images and channels, and pixels.
  void known_layer(const View& in, const View& out, bool any_size = false);
  void note(const View& view, std::int64_t item);

  std::vector<Step> steps_;
  std::vector<Packed> packed_;
  std::vector<std::int64_t> least_bytes_;
  std::int64_t packed_bytes_ = 0;
};

}  // namespace msf
