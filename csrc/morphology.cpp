#include "morphology.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>

#include "local.hpp"
#include "parallel.hpp"

namespace msf::morphology {
namespace {

constexpr Index alignment = 64;          // bytes
constexpr Index plane_bytes = 96 << 10;  // of one buffer's plane: two or three share an L2 cache
constexpr Index ring_bytes = 256 << 10;  // of all rings: within an L2 cache
constexpr Index chunk_bytes = 16 << 10;  // read by one combination of rows
constexpr Index least_chunk = 4;         // rows: the loop over many rows is unrolled
constexpr Index small_image = 1 << 15;   // pixels: not worth a second thread
constexpr Index least_bytes = 4096;  // of a row of a block (a page), unless the image is narrower

Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }

struct Extent {
  Index lead = 1, z, y, x;
};

// The axes of the image extended by the footprint's reach; -1: outside.
class Axis {
 public:
  Axis(Index n, Index low, Index high, BorderMode border)
      : radius_(std::max({-low, high, Index{0}})),
        source_(local::extended_axis(n, radius_, border)) {}
  Index operator[](Index position) const { return source_[position + radius_]; }

 private:
  Index radius_;
  std::vector<Index> source_;
};

struct Block {
  Index lead, z0, z1, y0, y1, x0, x1;
};

// The scratch memory and the loops of one block.
class Worker {
 public:
  Worker(const std::vector<Cells>& chains, const Rows& rows) : chains_(chains), rows_(rows) {}

  void run(const FlatFootprint& part, const Block& b, const Extent& image, const Axis& zs,
           const Axis& ys, Index lead, bool begun, bool done) {
    prepare(part, b);
    const Index depth = part.span[0];
    for (Index t = 0; t < b.z1 - b.z0 + depth - 1; ++t) {
      poll();
      load(b, image, lead < 0 ? -1 : zs[b.z0 + t + part.low[0]], ys, lead, t);
      for (std::size_t c = 0; c < chains_.size(); ++c)
        for (const Pass& pass : passes_)
          chains_[c].along(at(c, pass.from, t), at(c, pass.to, t), pass.cells, pass.shifts.data(),
                           static_cast<int>(pass.shifts.size()));
      if (t >= depth - 1) finish(b, image, t - (depth - 1), begun, done);
    }
  }

 private:
  struct Pass {
    int from, to;
    Index cells;
    std::vector<Index> shifts;
  };
  struct Ring {
    bool kept = false;                // until its plane of the result is finished
    Index depth = 1, offset[2] = {};  // planes; bytes into memory_, per chain
  };

  Index bytes() const { return chains_[0].bytes; }
  Index pixels() const { return chains_[0].pixels; }

  void prepare(const FlatFootprint& part, const Block& b) {
    part_ = &part;
    columns_ = b.x1 - b.x0;
    height_ = b.y1 - b.y0;
    wide_ = columns_ + part.span[2] - 1;
    tall_ = height_ + part.span[1] - 1;
    const Index unit = alignment / 2 / bytes();
    stride_ = ceil_div(ceil_div(wide_, pixels()), unit) * unit;
    plane_ = (tall_ * stride_ + ceil_div(part.span[2], pixels()) + alignment) * bytes();
    plane_ = ceil_div(plane_, alignment) * alignment;

    rings_.assign(part.buffers, {});
    for (const auto& row : part.rows) rings_[row.buffer] = {true, part.span[0], {}};
    Index total = 0;
    for (int i = 0; i < part.buffers; ++i)
      for (std::size_t c = 0; c < chains_.size(); ++c) {
        const bool shared = c > 0 && (i == 0 || !rings_[i].kept);
        rings_[i].offset[c] = shared ? rings_[i].offset[0] : total;
        if (!shared) total += rings_[i].depth * plane_;
      }
    for (std::size_t c = 0; c < 2; ++c) {
      result_[c] = total;
      total += ceil_div(height_ * stride_ * bytes(), alignment) * alignment;
    }
    scratch_ = total;
    total += ceil_div(2 * stride_ * bytes(), alignment) * alignment;
    if (static_cast<Index>(memory_.size()) < total + alignment) memory_.resize(total + alignment);

    passes_.clear();
    std::vector<Index> valid(part.buffers, tall_);  // rows
    for (const auto& step : part.steps) {
      Pass pass{step.from, step.to, 0, {}};
      Index down = 0;
      for (const auto& [y, x] : step.shifts) {
        pass.shifts.push_back(y * stride_ * pixels() + x);
        down = std::max(down, y);
      }
      valid[step.to] = valid[step.from] - down;
      pass.cells = valid[step.to] * stride_;
      passes_.push_back(pass);
    }
    // As many rows at once as keep what is read in the L1 cache.
    const Index together = static_cast<Index>(part.rows.size()) * stride_ * bytes();
    chunk_ = std::clamp<Index>(chunk_bytes / together, std::min(least_chunk, height_), height_);
    for (auto& pointers : pointers_) pointers.resize(part.rows.size());
  }

  std::byte* start() {
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.data());
    return memory_.data() + (alignment - address % alignment) % alignment;
  }
  std::byte* at(std::size_t chain, int buffer, Index t) {
    const Ring& ring = rings_[buffer];
    return start() + ring.offset[chain] + t % ring.depth * plane_;
  }

  void load(const Block& b, const Extent& image, Index z, const Axis& ys, Index lead, Index t) {
    std::byte* const to = at(0, 0, t);
    for (Index y = 0; y < tall_; ++y) {
      const Index source = z < 0 ? -1 : ys[b.y0 + y + part_->low[1]];
      const Index row = source < 0 ? -1 : (lead * image.z + z) * image.y + source;
      rows_.load(row, b.x0 + part_->low[2], wide_, to + y * stride_ * bytes());
    }
  }

  void finish(const Block& b, const Extent& image, Index t, bool begun, bool done) {
    for (std::size_t c = 0; c < chains_.size(); ++c)
      for (std::size_t k = 0; k < part_->rows.size(); ++k) {
        const auto& row = part_->rows[k];
        pointers_[c][k] =
            at(c, row.buffer, t + row.z) + (row.y * stride_ + row.x / pixels()) * bytes();
      }
    for (Index y = 0; y < height_; y += chunk_) {
      const Index count = std::min(chunk_, height_ - y);
      const std::byte* results[2] = {};
      for (std::size_t c = 0; c < chains_.size(); ++c) results[c] = join(c, count);
      for (Index i = 0; i < count; ++i) {
        const Index skip = i * stride_ * bytes();
        const void* const rows[2] = {results[0] + skip, results[1] ? results[1] + skip : nullptr};
        const Index row = (b.lead * image.z + b.z0 + t) * image.y + b.y0 + y + i;
        rows_.store(rows, row, b.x0, columns_, begun, done, start() + scratch_);
      }
    }
  }

  // The extreme over the rows that a chain's pointers are at, for `count` rows; moves them on.
  const std::byte* join(std::size_t chain, Index count) {
    auto& pointers = pointers_[chain];
    const std::byte* result = pointers[0];
    if (pointers.size() > 1) {
      std::byte* const to = start() + result_[chain];
      const auto rows = reinterpret_cast<const void* const*>(pointers.data());
      // With the padding between the rows: loops without a remainder.
      chains_[chain].combine(rows, static_cast<int>(pointers.size()), to, count * stride_);
      result = to;
    }
    for (auto& pointer : pointers) pointer += count * stride_ * bytes();
    return result;
  }

  const std::vector<Cells>& chains_;
  const Rows& rows_;
  const FlatFootprint* part_ = nullptr;
  Index columns_ = 0, height_ = 0;            // of the block
  Index wide_ = 0, tall_ = 0;                 // with the footprint's reach
  Index stride_ = 0, plane_ = 0, chunk_ = 1;  // cells of a row, bytes of a plane, rows at once
  Index result_[2] = {}, scratch_ = 0;
  std::vector<Ring> rings_;
  std::vector<Pass> passes_;
  std::vector<const std::byte*> pointers_[2];
  std::vector<std::byte> memory_;
};

// Sizes of the blocks, as extents.
Extent block_size(const Extent& image, const std::vector<FlatFootprint>& parts, const Cells& cells,
                  std::size_t chains) {
  Index span[3] = {1, 1, 1}, kept = 1;
  bool runs = false;
  for (const auto& part : parts) {
    for (int k = 0; k < 3; ++k) span[k] = std::max(span[k], part.span[k]);
    std::vector<char> in_ring(part.buffers);
    for (const auto& row : part.rows) in_ring[row.buffer] = 1;
    runs |= static_cast<Index>(part.rows.size()) > part.span[0];
    kept = std::max<Index>(kept, std::count(in_ring.begin(), in_ring.end(), 1));
  }
  Extent block{1, image.z, image.y, image.x};
  if (image.lead * image.z * image.y * image.x <= small_image) return block;

  const Index rings = kept * static_cast<Index>(chains) * span[0];
  const Index budget = std::min(plane_bytes, std::max(ring_bytes / rings, plane_bytes / 4));
  // Windows along y are made for the rows of the halo too; runs only along x, which costs little.
  const Index least_rows = std::min(std::max<Index>((runs ? 1 : 3) * (span[1] - 1), 8), image.y);
  const auto row_bytes = [&](Index x) {
    return ceil_div(x + span[2] - 1, cells.pixels) * cells.bytes;
  };
  Index across = 1;
  while (row_bytes(block.x) * (least_rows + span[1] - 1) > budget &&
         row_bytes(block.x) > least_bytes && block.x > 4 * span[2]) {
    ++across;
    const Index unit = std::max<Index>(alignment / cells.bytes, 1) * cells.pixels;
    block.x = ceil_div(ceil_div(image.x, across), unit) * unit;
  }
  const Index rows = std::clamp(budget / row_bytes(block.x) - (span[1] - 1), least_rows, image.y);
  block.y = ceil_div(image.y, ceil_div(image.y, rows));
  const Index tiles = image.lead * ceil_div(image.y, block.y) * ceil_div(image.x, block.x);
  const Index most = std::max<Index>(1, image.z / std::max<Index>(8 * (span[0] - 1), 1));
  block.z = ceil_div(image.z, std::clamp<Index>(ceil_div(4 * num_threads(), tiles), 1, most));
  return block;
}

}  // namespace

void run(const std::vector<Index>& shape, const std::vector<FlatFootprint>& parts,
         BorderMode border, const std::vector<Cells>& chains, const Rows& rows) {
  const std::size_t leading = shape.size() - 3;
  Extent image{1, shape[leading], shape[leading + 1], shape[leading + 2]};
  for (std::size_t k = 0; k < leading; ++k) image.lead *= shape[k];
  if (image.lead * image.z * image.y * image.x == 0) return;

  std::vector<Axis> zs, ys;
  std::vector<std::vector<Axis>> leads(parts.size());
  for (std::size_t p = 0; p < parts.size(); ++p) {
    const auto& part = parts[p];
    const auto axis = [&](int k, Index n) {
      return Axis(n, part.low[k], part.low[k] + part.span[k] - 1, border);
    };
    zs.push_back(axis(0, image.z));
    ys.push_back(axis(1, image.y));
    for (std::size_t k = 0; k < leading; ++k)
      leads[p].emplace_back(shape[k], part.lead[k], part.lead[k], border);
  }
  // Where a part reads the volumes of a leading index; -1: outside.
  const auto source = [&](std::size_t p, Index lead) {
    Index from = 0, stride = 1;
    for (std::size_t k = leading; k-- > 0;) {
      const Index at = leads[p][k][lead % shape[k] + parts[p].lead[k]];
      if (at < 0) return Index{-1};
      from += at * stride;
      lead /= shape[k];
      stride *= shape[k];
    }
    return from;
  };

  const Extent size = block_size(image, parts, chains[0], chains.size());
  const Index nz = ceil_div(image.z, size.z), ny = ceil_div(image.y, size.y);
  const Index nx = ceil_div(image.x, size.x);
  const Index tasks = image.lead * nz * ny * nx;
  std::atomic<Index> next{0};
  parallel_tasks(std::min<Index>(num_threads(), tasks), [&](Index) {
    Worker worker(chains, rows);
    for (Index i; (i = next.fetch_add(1)) < tasks;) {
      const Index x0 = i % nx * size.x, y0 = i / nx % ny * size.y, z0 = i / (nx * ny) % nz * size.z;
      const Block block{i / (nx * ny * nz),
                        z0,
                        std::min(z0 + size.z, image.z),
                        y0,
                        std::min(y0 + size.y, image.y),
                        x0,
                        std::min(x0 + size.x, image.x)};
      for (std::size_t p = 0; p < parts.size(); ++p)
        worker.run(parts[p], block, image, zs[p], ys[p], source(p, block.lead), p > 0,
                   p + 1 == parts.size());
    }
  });
}

}  // namespace msf::morphology
