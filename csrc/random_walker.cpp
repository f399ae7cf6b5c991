// Random walks to seeds, Grady (2006), IEEE PAMI 28(11):1768-1783: for each label the linear system
// of the graph's Laplacian, by conjugate gradients preconditioned with its diagonal.
//
// No matrix is built: an edge is one float32 at its first pixel, or at the node of an unknown pixel
// (walk_gradients.hpp, multigrid.hpp).
#include "kernels/random_walker.hpp"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "lane_sum.hpp"
#include "load_values.hpp"
#include "multigrid.hpp"
#include "parallel.hpp"
#include "walk_gradients.hpp"

namespace msf {
namespace {

// Signed integers not below -1, as scikit-image has it.
void load(const Array& image, double scale, std::int64_t begin, std::int64_t n, double* out) {
  load_values(image, begin, n, scale, scale < 1 ? -1 : -HUGE_VAL, out);
}

using Seed = WalkSeed;

// Pixels of a row from an unknown one to another, with at most 16 known ones between two.
struct Stretch {
  std::int64_t begin, end;
  bool dense;  // at least a quarter is unknown

  static Stretch next(const std::int32_t* labels, std::int64_t x, std::int64_t length) {
    while (x < length && labels[x] != 0) ++x;
    const std::int64_t begin = x;
    std::int64_t end = x, unknown = 0;
    for (; x < std::min(end + 17, length); ++x)
      if (labels[x] == 0) {
        end = x + 1;
        ++unknown;
      }
    return {begin, end, end - begin <= 4 * unknown};
  }
};

class Walk {
 public:
  Walk(const RandomWalk& walk, std::int32_t* labels, const std::int64_t* shape)
      : walk_(walk),
        labels_(labels),
        extents_{shape[0], shape[1], shape[2]},
        length_(shape[2]),
        rows_(shape[0] * shape[1]),
        n_(rows_ * length_),
        strides_{shape[1] * shape[2], shape[2], 1},
        grain_(std::max<std::int64_t>(1, (1 << 14) / std::max<std::int64_t>(length_, 1))),
        height_(std::max<std::int64_t>(1, (1 << 10) / std::max<std::int64_t>(length_, 1))),
        fields_(4 * (n_ + 1), 0.0f),
        seeds_of_row_(rows_) {}

  // Weights of the edges between unknown pixels, those to seeds, and the diagonal.
  void weigh(const Array& image, double scale) {
    const std::int64_t channels = image.shape[3], values = length_ * channels;
    rows([&](std::int64_t row) {
      const std::int64_t at[3] = {row / extents_[1], row % extents_[1], 0};
      std::vector<double> here(values), there(values);
      load(image, scale, row * values, values, here.data());
      for (int axis = 0; axis < 3; ++axis) {
        if (axis < 2 && at[axis] + 1 == extents_[axis]) continue;
        const std::int64_t stride = strides_[axis], pixels = length_ - (axis == 2);
        const double* other = here.data() + channels;
        if (axis < 2) {
          load(image, scale, row * values + stride * channels, values, there.data());
          other = there.data();
        }
        for (std::int64_t x = 0; x < pixels; ++x) {
          const std::int64_t pixel = row * length_ + x;
          if (labels_[pixel] < 0 || labels_[pixel + stride] < 0) continue;
          double squares = 0;
          for (std::int64_t c = x * channels; c < (x + 1) * channels; ++c) {
            const double d = here[c] - other[c];
            squares += d * d;
          }
          weights(axis)[pixel] =
              static_cast<float>(std::exp(walk_.factors[axis] * squares) + 1e-10);
        }
      }
    });
    rows([&](std::int64_t row) {
      for (std::int64_t x = 0; x < length_; ++x) diagonal(row, x);
    });
    rows([&](std::int64_t row) {  // no edge to a seed is left
      for (int axis = 0; axis < 3; ++axis)
        for (std::int64_t pixel = row * length_; pixel < (row + 1) * length_; ++pixel) {
          const std::int64_t next = pixel + strides_[axis];
          if (weights(axis)[pixel] != 0 && (labels_[pixel] != 0 || labels_[next] != 0))
            weights(axis)[pixel] = 0;
        }
    });
  }

  // The unknown pixels brick by brick, so that neighbours are near in memory, and their graph.
  WeightedGraph graph(std::vector<std::int64_t>& pixels, std::vector<Seed>& seeds) const {
    const std::int64_t side = extents_[0] > 1 ? 16 : 64;
    const std::int64_t size[3] = {extents_[0] > 1 ? side : 1, side, side};
    std::int64_t bricks[3];
    for (int axis = 0; axis < 3; ++axis)
      bricks[axis] = (extents_[axis] + size[axis] - 1) / size[axis];
    const std::int64_t count = bricks[0] * bricks[1] * bricks[2];
    const auto each = [&](std::int64_t brick, auto&& f) {
      const std::int64_t at[3] = {brick / (bricks[1] * bricks[2]) * size[0],
                                  brick / bricks[2] % bricks[1] * size[1],
                                  brick % bricks[2] * size[2]};
      const std::int64_t end = std::min(at[2] + size[2], extents_[2]);
      for (std::int64_t z = at[0]; z < std::min(at[0] + size[0], extents_[0]); ++z)
        for (std::int64_t y = at[1]; y < std::min(at[1] + size[1], extents_[1]); ++y)
          for (std::int64_t x = at[2]; x < end; ++x) {
            const std::int64_t pixel = z * strides_[0] + y * strides_[1] + x;
            if (labels_[pixel] == 0) f(pixel);
          }
    };
    WeightedGraph graph;
    std::vector<std::uint32_t> number(n_);
    graph.block.assign(count + 1, 0);
    parallel_tasks(count, [&](std::int64_t brick) {
      each(brick, [&](std::int64_t) { ++graph.block[brick + 1]; });
    });
    for (std::int64_t b = 0; b < count; ++b) graph.block[b + 1] += graph.block[b];
    pixels.resize(graph.block.back());
    parallel_tasks(count, [&](std::int64_t brick) {
      std::uint32_t at = graph.block[brick];
      each(brick, [&](std::int64_t pixel) {
        number[pixel] = at;
        pixels[at++] = pixel;
      });
    });
    const auto edges_of = [&](std::int64_t pixel, auto&& f) {
      for (int axis = 0; axis < 3; ++axis) {
        const std::int64_t other = pixel - strides_[axis];
        if (other >= 0 && weights(axis)[other] > 0) f(other, weights(axis)[other]);
        if (weights(axis)[pixel] > 0) f(pixel + strides_[axis], weights(axis)[pixel]);
      }
    };
    const std::uint32_t rows = graph.block.back();
    graph.first.assign(rows + 1, 0);
    graph.excess.assign(rows, 0.0f);
    parallel_for(rows, 1 << 13, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        edges_of(pixels[i], [&](std::int64_t, float) { ++graph.first[i + 1]; });
    });
    for (std::uint32_t i = 0; i < rows; ++i) graph.first[i + 1] += graph.first[i];
    graph.column.resize(graph.first[rows]);
    graph.weight.resize(graph.first[rows]);
    parallel_for(rows, 1 << 13, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        std::uint32_t at = graph.first[i];
        edges_of(pixels[i], [&](std::int64_t other, float w) {
          std::uint32_t k = at++;
          for (; k > graph.first[i] && graph.column[k - 1] > number[other]; --k) {
            graph.column[k] = graph.column[k - 1];
            graph.weight[k] = graph.weight[k - 1];
          }
          graph.column[k] = number[other];
          graph.weight[k] = w;
        });
      }
    });
    for (const auto& row : seeds_of_row_)
      for (Seed seed : row) {
        seed.pixel = number[seed.pixel];
        graph.excess[seed.pixel] += seed.weight;
        seeds.push_back(seed);
      }
    return graph;
  }

  // f(pixel) for the nodes of a piece: some rows of all planes, so that neighbours along any axis
  // are near in memory. Nodes are the unknown pixels, and where these lie scattered along a row,
  // the known ones between them, so that runs are long.
  std::int64_t pieces() const { return (extents_[1] + height_ - 1) / height_; }
  template <class F>
  void each_node(std::int64_t piece, F&& f) const {
    const std::int64_t top = piece * height_, bottom = std::min(top + height_, extents_[1]);
    for (std::int64_t z = 0; z < extents_[0]; ++z)
      for (std::int64_t y = top; y < bottom; ++y) {
        const std::int64_t row = z * strides_[0] + y * length_;
        for (std::int64_t x = 0; x < length_;) {
          const auto [begin, end, dense] = Stretch::next(labels_ + row, x, length_);
          for (x = begin; x < end; ++x)
            if (dense || labels_[row + x] == 0) f(row + x);
        }
      }
  }
  // f(pixel, node) for the unknown ones; `first`: the piece's first node.
  template <class F>
  void each_unknown(std::int64_t piece, std::int64_t first, F&& f) const {
    each_node(piece, [&](std::int64_t pixel) {
      if (labels_[pixel] == 0) f(pixel, first);
      ++first;
    });
  }

  // The system for conjugate gradients. `first` receives the first node of each piece. The weights
  // are gone afterwards.
  WalkSystem system(std::vector<std::uint32_t>& first) {
    std::vector<std::uint32_t> number(n_);
    first.assign(pieces() + 1, 0);
    parallel_tasks(pieces(), [&](std::int64_t piece) {
      std::uint32_t count = 0;
      each_node(piece, [&](std::int64_t pixel) { number[pixel] = count++; });
      first[piece + 1] = count;
    });
    for (std::int64_t piece = 0; piece < pieces(); ++piece) first[piece + 1] += first[piece];
    parallel_tasks(pieces(), [&](std::int64_t piece) {
      each_node(piece, [&](std::int64_t pixel) { number[pixel] += first[piece]; });
    });
    const std::int64_t size = first.back();
    WalkSystem system;
    for (auto& weight : system.weight) weight.resize(size + 1);
    system.excess.resize(size);
    system.inverse.resize(size);
    parallel_tasks(pieces(), [&](std::int64_t piece) {
      std::uint32_t at = first[piece];
      each_node(piece, [&](std::int64_t pixel) {
        system.inverse[at++] = inverse()[pixel];
        for (int axis = 0; axis < 3; ++axis) system.weight[axis][at] = weights(axis)[pixel];
      });
    });
    std::vector<std::vector<WalkRun>> runs(pieces());
    parallel_tasks(pieces(), [&](std::int64_t piece) {
      std::uint32_t at = first[piece];
      each_node(piece, [&](std::int64_t pixel) {
        WalkRun node{at, {}, {}};
        for (int axis = 0; axis < 2; ++axis) {
          const std::int64_t before = pixel - strides_[axis];
          if (before >= 0 && weights(axis)[before] > 0) node.before[axis] = at - number[before];
          if (weights(axis)[pixel] > 0) node.after[axis] = number[pixel + strides_[axis]] - at;
        }
        if (runs[piece].empty() || !system.join(runs[piece].back(), node))
          runs[piece].push_back(node);
        ++at;
      });
    });
    for (const auto& part : runs) system.runs.insert(system.runs.end(), part.begin(), part.end());
    fields_ = {};
    for (auto& row : seeds_of_row_) {
      for (Seed seed : row) {
        seed.pixel = number[seed.pixel];
        system.excess[seed.pixel] += seed.weight;
        system.seeds.push_back(seed);
      }
      row = {};
    }
    system.tolerance = walk_.tolerance;
    system.most_iterations = walk_.most_iterations;
    return system;
  }

 private:
  template <class F>
  void rows(F&& f) const {
    parallel_for(rows_, grain_, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) f(row);
    });
  }
  float* weights(int axis) { return fields_.data() + axis * (n_ + 1) + 1; }
  const float* weights(int axis) const { return fields_.data() + axis * (n_ + 1) + 1; }
  float* inverse() { return weights(3); }

  void diagonal(std::int64_t row, std::int64_t x) {
    const std::int64_t pixel = row * length_ + x;
    inverse()[pixel] = 0;
    if (labels_[pixel] != 0) return;
    const std::int64_t at[3] = {row / extents_[1], row % extents_[1], x};
    double sum = 0;
    for (int axis = 0; axis < 3; ++axis)
      for (const int way : {1, -1}) {
        if (way > 0 ? at[axis] + 1 == extents_[axis] : at[axis] == 0) continue;
        const std::int64_t other = pixel + way * strides_[axis];
        const float w = weights(axis)[way > 0 ? pixel : other];
        sum += w;
        if (labels_[other] > 0) seeds_of_row_[row].push_back({pixel, labels_[other], w});
      }
    inverse()[pixel] =
        sum > 0 ? static_cast<float>(walk_.solver == WalkSolver::plain ? 1 : 1 / sum) : 0.0f;
  }

  const RandomWalk& walk_;
  std::int32_t* labels_;
  std::array<std::int64_t, 3> extents_;
  std::int64_t length_, rows_, n_;
  std::array<std::int64_t, 3> strides_;
  std::int64_t grain_;
  std::int64_t height_;
  // Weights along each axis and the inverse of the diagonal, each with one before the first, where
  // there is no neighbour: one piece of memory, which the solver's vectors can take over.
  std::vector<float> fields_;
  std::vector<std::vector<Seed>> seeds_of_row_;
};

// Probabilities sum to one: the last label's are what the others leave. Its residual is then minus
// the sum of theirs, which so small ones keep below its own bound.
void solve_by_multigrid(Walk& system, const RandomWalk& walk, std::int32_t* label, std::int64_t all,
                        std::int64_t n, double* probabilities, RandomWalkReport& report) {
  std::vector<std::int64_t> pixels;
  std::vector<Seed> seeds;
  Multigrid multigrid(system.graph(pixels, seeds));
  const auto rows = static_cast<std::int64_t>(pixels.size());
  constexpr std::int64_t grain = 1 << 13;
  std::vector<double> b, x, rest(rows, 1.0), best(rows, -HUGE_VAL);
  std::vector<std::int32_t> winner(rows);
  const auto fill = [&](std::int64_t first, int count, int sides, double* norms) {
    b.assign(rows * sides, 0.0);
    for (const Seed& seed : seeds)
      if (seed.label >= first && seed.label < first + count)
        b[seed.pixel * sides + seed.label - first] += seed.weight;
    for (int k = 0; k < count; ++k) {
      norms[k] = 0;
      for (std::int64_t i = 0; i < rows; ++i) norms[k] += b[i * sides + k] * b[i * sides + k];
      norms[k] = std::sqrt(norms[k]);
    }
  };
  const auto take = [&](std::int64_t number, const double* p, int sides) {
    double* const out = probabilities ? probabilities + (number - 1) * all : nullptr;
    std::vector<std::array<double, 2>> range((rows + grain - 1) / grain);
    parallel_for(rows, grain, [&](std::int64_t begin, std::int64_t end) {
      double least = 0, most = 0;
      for (std::int64_t i = begin; i < end; ++i) {
        const double here = p[i * sides];
        least = std::min(least, here);
        most = std::max(most, here);
        if (out) out[pixels[i]] = here;
        if (here > best[i]) best[i] = here, winner[i] = static_cast<std::int32_t>(number);
        if (p != rest.data()) rest[i] -= here;
      }
      range[begin / grain] = {least, most};
    });
    for (const auto& r : range) {
      report.least = std::min(report.least, r[0]);
      report.most = std::max(report.most, r[1]);
    }
  };
  double last = 0;
  fill(n, 1, 1, &last);
  for (std::int64_t first = 1; first < n; first += 4) {
    const int count = static_cast<int>(std::min<std::int64_t>(4, n - first));
    const int sides = count == 3 ? 4 : count;
    double enough[4] = {};
    fill(first, count, sides, enough);
    for (int k = 0; k < count; ++k) {
      if (last > 0) enough[k] = std::min(enough[k], last / static_cast<double>(n - 1));
      enough[k] *= walk.tolerance;
    }
    x.resize(rows * sides);
    const std::int64_t used =
        multigrid.solve(sides, b.data(), enough, walk.most_iterations, x.data());
    if (used < 0) report.converged = false;
    report.iterations += std::max<std::int64_t>(used, 0);
    for (int k = 0; k < count; ++k) take(first + k, x.data() + k, sides);
  }
  take(n, rest.data(), 1);
  parallel_for(rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) label[pixels[i]] = winner[i];
  });
}

class Winners {  // the label that is most probable so far
 public:
  Winners(const Walk& walk, const std::vector<std::uint32_t>& first, std::int64_t all,
          double* probabilities, RandomWalkReport& report)
      : walk_(walk), first_(first), all_(all), probabilities_(probabilities), report_(report) {}

  // Labels come in ascending order: of equal ones the lowest wins.
  template <class Real>
  void take(std::int32_t label, const Real* x) {
    const bool start = winner_.empty();
    if (start) {
      best_.resize(first_.back());
      winner_.resize(first_.back());
    }
    double* const out = probabilities_ ? probabilities_ + (label - 1) * all_ : nullptr;
    std::vector<std::array<double, 2>> range(walk_.pieces());
    parallel_tasks(walk_.pieces(), [&](std::int64_t piece) {
      double least = 0, most = 0;
      walk_.each_unknown(piece, first_[piece], [&](std::int64_t pixel, std::int64_t i) {
        const double here = x[i];
        least = std::min(least, here);
        most = std::max(most, here);
        if (out) out[pixel] = here;
        if (start || here > best_[i]) {
          best_[i] = here;
          winner_[i] = label;
        }
      });
      range[piece] = {least, most};
    });
    for (const auto& r : range) {
      report_.least = std::min(report_.least, r[0]);
      report_.most = std::max(report_.most, r[1]);
    }
  }

  void write(std::int32_t* labels) const {
    parallel_tasks(walk_.pieces(), [&](std::int64_t piece) {
      walk_.each_unknown(piece, first_[piece],
                         [&](std::int64_t pixel, std::int64_t i) { labels[pixel] = winner_[i]; });
    });
  }

 private:
  const Walk& walk_;
  const std::vector<std::uint32_t>& first_;
  std::int64_t all_;
  double* probabilities_;
  RandomWalkReport& report_;
  std::vector<double> best_;
  std::vector<std::int32_t> winner_;
};

template <class Real>
void solve_by_gradients(Walk& walk, const RandomWalk&, std::int32_t* label, std::int64_t all,
                        std::int64_t n, double* probabilities, RandomWalkReport& report) {
  std::vector<std::uint32_t> first_node;
  const WalkSystem system = walk.system(first_node);
  Winners winners(walk, first_node, all, probabilities, report);
  WalkGradients<Real> gradients(system);
  for (std::int64_t number = 1; number <= n; ++number) {
    const std::int64_t used = gradients.solve(static_cast<std::int32_t>(number));
    if (used < 0) report.converged = false;
    report.iterations += std::max<std::int64_t>(used, 0);
    winners.take(static_cast<std::int32_t>(number), gradients.solution());
  }
  winners.write(label);
}

}  // namespace

std::array<double, 2> mean_and_deviation(const Array& image) {
  const std::int64_t n = image.size(), piece = 1 << 12, pieces = (n + piece - 1) / piece;
  std::vector<double> sums(pieces);
  const auto mean_of = [&](double power, double shift) {
    parallel_for(n, piece, [&](std::int64_t begin, std::int64_t end) {
      double v[piece];
      load(image, 1, begin, end - begin, v);
      for (std::int64_t i = 0; i < end - begin; ++i) v[i] -= shift;
      sums[begin / piece] =
          sum_of(end - begin, [&](std::int64_t i) { return power == 2 ? v[i] * v[i] : v[i]; });
    });
    double total = 0;
    for (const double sum : sums) total += sum;
    return total / static_cast<double>(n);
  };
  const double mean = mean_of(1, 0);
  return {mean, std::sqrt(mean_of(2, mean))};
}

RandomWalkReport random_walker(const Array& image, double scale, const RandomWalk& walk,
                               const MutableArray& labels, std::int64_t n,
                               const MutableArray* probabilities) {
  RandomWalkReport report;
  auto* const label = labels.as<std::int32_t>();
  const std::int64_t pixels = labels.size();
  Walk system(walk, label, labels.shape.data());
  system.weigh(image, scale);
  const bool narrow = (image.dtype == DType::float32 || image.dtype == DType::float16) &&
                      walk.tolerance >= 1e-5;  // finer ones are below float32's rounding
  const auto solve = walk.solver == WalkSolver::multigrid ? solve_by_multigrid
                     : narrow                             ? solve_by_gradients<float>
                                                          : solve_by_gradients<double>;
  solve(system, walk, label, pixels, n, probabilities ? probabilities->as<double>() : nullptr,
        report);
  return report;
}

}  // namespace msf
