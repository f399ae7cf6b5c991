// Steps of a plan; see plan.hpp.
#include "plan.hpp"

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "parallel.hpp"
#include "plan_checks.hpp"

namespace msf {

namespace {

// The view's features in the memory that a run was given.
Features at(const Plan::Slots& slots, const View& view) {
  Features f = view.features;
  f.data =
      static_cast<const std::byte*>(slots[static_cast<std::size_t>(view.slot)].data) + view.offset;
  return f;
}

std::int64_t* indices_at(const Plan::Slots& slots, const View& view) {
  return static_cast<std::int64_t*>(const_cast<void*>(at(slots, view).data));
}

bool same(const ConvolutionSpec& a, const ConvolutionSpec& b) {
  return a.in_channels == b.in_channels && a.out_channels == b.out_channels &&
         a.kernel == b.kernel && a.stride == b.stride && a.before == b.before &&
         a.after == b.after && a.dilation == b.dilation && a.activation == b.activation &&
         a.slope == b.slope && a.pooling == b.pooling && a.pool == b.pool;
}

constexpr std::size_t most_maps = 16;  // that a convolution reads
constexpr std::int64_t most_elements = std::int64_t{1} << 50;

struct ThreadOverride {
  const int before;
  explicit ThreadOverride(int threads) : before(set_thread_override(threads)) {}
  ThreadOverride(const ThreadOverride&) = delete;
  ThreadOverride& operator=(const ThreadOverride&) = delete;
  ~ThreadOverride() { set_thread_override(before); }
};

}  // namespace

void Plan::known(const View& view) { note(view, item_size(view.features.dtype)); }

void Plan::known_indices(const View& view) {
  note(view, sizeof(std::int64_t));
  check_packed(view);
}

void Plan::known_layer(const View& in, const View& out, bool any_size) {
  known(in);
  known(out);
  check_channels_last({&in, &out});
  check_same(in, out, any_size);
}

void Plan::note(const View& view, std::int64_t item) {
  const std::int64_t bytes = bytes_of(view, item);
  const auto slot = static_cast<std::size_t>(view.slot);
  least_bytes_.resize(std::max(least_bytes_.size(), slot + 1));
  least_bytes_[slot] = std::max(least_bytes_[slot], bytes);
}

std::shared_ptr<Convolution> Plan::packed(const ConvolutionSpec& spec, const float* weight,
                                          const float* bias, Algorithm algorithm,
                                          const Quantisation& steps) {
  for (const Packed& old : packed_)
    if (old.weight == weight && old.bias == bias && old.algorithm == algorithm &&
        old.scale == steps.scale && same(old.spec, spec))
      return old.layer;
  packed_.push_back({spec, weight, bias, algorithm, steps.scale,
                     std::shared_ptr<Convolution>(
                         steps.scale > 0 ? make_int8(spec, weight, bias, steps, have_byte_tiles())
                                         : make_convolution(spec, weight, bias, algorithm))});
  packed_bytes_ += packed_.back().layer->packed_bytes();
  return packed_.back().layer;
}

void Plan::convolution(const ConvolutionSpec& spec, const Array& weight, const Array& bias,
                       Algorithm algorithm, const std::vector<View>& in,
                       const std::optional<View>& full, const std::optional<View>& pooled,
                       const std::optional<View>& indices, const std::vector<std::int64_t>& phases,
                       const Quantisation& steps) {
  require(in.size() <= most_maps, "a convolution reads too many maps");
  for (const View& map : in) known(map);
  if (full) known(*full);
  if (pooled) known(*pooled);
  if (indices) known_indices(*indices);
  check_convolution(spec, algorithm, weight.size(), bias.size(), in, full, pooled, indices,
                    static_cast<std::int64_t>(phases.size()));
  for (const std::int64_t elements : phases) {
    View view = *full;
    require(elements >= 0 && elements < most_elements, "a phase is outside its memory");
    view.offset += elements * item_size(view.features.dtype);
    known(view);
  }
  const std::shared_ptr<Convolution> layer =
      packed(spec, weight.as<float>(), bias.as<float>(), algorithm, steps);
  add([=](const Slots& slots) {
    Features whole, half;
    ConvolutionOutputs out;
    if (full) out.full = &(whole = at(slots, *full));
    if (!phases.empty()) out.phases = &phases;
    if (pooled) out.pooled = &(half = at(slots, *pooled));
    if (indices) {
      out.indices = indices_at(slots, *indices);
      out.indices_channels_last = true;
    }
    std::array<Features, most_maps> maps;
    for (std::size_t i = in.size(); i-- > 0;) {
      maps[i] = at(slots, in[i]);
      if (i + 1 < in.size()) maps[i].more = &maps[i + 1];
    }
    layer->run(maps[0], out);
  });
}

void Plan::pointwise(PointwiseSpec spec, const View& in, const std::optional<View>& second,
                     const View& out) {
  known_layer(in, out);
  check_pointwise(spec, in.features.channels, second.has_value());
  if (second) {
    known(*second);
    check_same(in, *second);
    require(second->features.dtype == in.features.dtype && second->features.channel_stride <= 1,
            "a second operand must have channels side by side, and the first one's type");
  }
  add([=, spec = std::move(spec)](const Slots& slots) {
    msf::pointwise(spec, at(slots, in), second ? at(slots, *second) : Features{}, at(slots, out));
  });
}

void Plan::pool(const PoolSpec& spec, const View& in, const View& out,
                const std::optional<View>& indices) {
  known_layer(in, out, true);
  check_pool(spec);
  if (indices) {
    known_indices(*indices);
    check_same(out, *indices);
  }
  add([=](const Slots& slots) {
    msf::pool(spec, at(slots, in), at(slots, out), indices ? indices_at(slots, *indices) : nullptr);
  });
}

void Plan::unpool(const Size3& step, const View& in, const View& indices, const View& out) {
  known_layer(in, out, true);
  known_indices(indices);
  check_pool({step, step, {}, step});
  check_same(in, indices);
  add([=](const Slots& slots) {
    msf::unpool(step, at(slots, in), indices_at(slots, indices), at(slots, out));
  });
}

void Plan::resize(std::array<Stretch, 3> axes, const View& in, const View& out) {
  known(in);
  known(out);
  check_channels_last({&in});
  check_same(in, out, true);
  require(in.features.dtype == out.features.dtype, "a layer's maps must have one type");
  for (int a = 0; a < 3; ++a) {
    const auto count = static_cast<std::size_t>(out.features.size[a]);
    require(
        axes[a].low.size() == count && axes[a].high.size() == count && axes[a].far.size() == count,
        "a stretch must be as long as its axis");
    check_indices(axes[a].low, in.features.size[a], false);
    check_indices(axes[a].high, in.features.size[a], false);
  }
  add([=, axes = std::move(axes)](const Slots& slots) {
    msf::resize(axes, at(slots, in), at(slots, out));
  });
}

void Plan::gather(std::array<std::vector<std::int64_t>, 3> maps, float fill, const View& in,
                  const View& out) {
  known(in);
  known(out);
  check_same(in, out, true);
  for (int a = 0; a < 3; ++a) {
    const std::int64_t from = in.features.size[a], to = out.features.size[a];
    require(maps[a].empty() ? to <= from : maps[a].size() == static_cast<std::size_t>(to),
            "a map must be as long as its axis");
    check_indices(maps[a], from, true);
  }
  add([=, maps = std::move(maps)](const Slots& slots) {
    msf::gather(maps, fill, at(slots, in), at(slots, out));
  });
}

void Plan::adaptive_means(const View& in, const View& out) {
  known_layer(in, out, true);
  add([=](const Slots& slots) { msf::adaptive_means(at(slots, in), at(slots, out)); });
}

void Plan::normalise(std::int64_t groups, float eps, PointwiseSpec after, const View& in,
                     const View& out) {
  known_layer(in, out);
  check_pointwise(after, in.features.channels, false);
  require(groups >= 1 && in.features.channels % groups == 0,
          "groups of channels must be of one size");
  add([=, after = std::move(after)](const Slots& slots) {
    msf::normalise(groups, eps, after, at(slots, in), at(slots, out));
  });
}

void Plan::softmax(const View& in, const View& out) {
  known_layer(in, out);
  add([=](const Slots& slots) { msf::softmax(at(slots, in), at(slots, out)); });
}

void Plan::attention(std::int64_t heads, float scale, const View& queries, const View& keys,
                     const View& values, const View& out) {
  for (const View* view : {&queries, &keys, &values, &out}) {
    known(*view);
    const Features &f = view->features, &like = view == &values ? keys.features : queries.features;
    const bool fits = view == &keys || f.size == like.size;
    require(heads >= 1 && f.channels % heads == 0 && f.channels == out.features.channels &&
                f.batch == out.features.batch && fits,
            "queries, keys and values must fit one another");
  }
  check_channels_last({&queries, &keys, &values, &out});
  add([=](const Slots& slots) {
    msf::attention(heads, scale, at(slots, queries), at(slots, keys), at(slots, values),
                   at(slots, out));
  });
}

void Plan::run(std::int64_t begin, std::int64_t end, int threads, const Slots& slots) const {
  require(begin >= 0 && end <= count() && slots.size() >= least_bytes_.size(),
          "no such steps, or too few arrays");
  for (std::size_t i = 0; i < least_bytes_.size(); ++i)
    if (slots[i].size() * item_size(slots[i].dtype) < least_bytes_[i])
      throw std::invalid_argument("plan: array " + std::to_string(i) + " must have " +
                                  std::to_string(least_bytes_[i]) + " bytes");
  std::optional<ThreadOverride> limited;  // 0: what holds for the caller
  if (threads > 0) limited.emplace(threads);
  for (std::int64_t i = begin; i < end; ++i) steps_[static_cast<std::size_t>(i)](slots);
}

}  // namespace msf
