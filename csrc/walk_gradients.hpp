// Conjugate gradients for the Laplacian of a grid's unknown pixels.
//
// Unknown pixels are nodes one after another; known ones take neither time nor memory, but where
// they are few among unknown ones: there they are nodes without edges. The nodes come in runs,
// along which a node's neighbours are always equally far away: so no node has indices of its own,
// and a run is worked on in vectors. The Laplacian is applied to differences, p_i - p_j, so that
// rows sum to zero whatever the weights are rounded to. One right side after the other, whose
// vectors stay in the caches. Sums are by pieces, then over pieces in order: they depend neither on
// threads nor on the width of vectors.
//
// Vectors are of float32 where the image is, as scikit-image's are then: an iteration waits for
// memory, and half of it suffices. Sums are of float64 always.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace msf {

// Nodes from `begin` to the next run. How far the neighbours along z and y lie before and after, 0
// where no node of the run has one; along x they are the nodes before and after. A node without the
// neighbour that others have has an edge of weight 0 there.
struct WalkRun {
  std::int64_t begin;
  std::uint32_t before[2], after[2];
};

struct WalkSeed {  // an edge from an unknown pixel to a seed
  std::int64_t pixel;
  std::int32_t label;
  float weight;
};

struct WalkSystem {
  // Of the edges to the nodes after along z, y and x, 0 where there is none: that of node i is
  // [i + 1], behind a 0.
  std::array<std::vector<float>, 3> weight;
  std::vector<float> excess;   // weight to seeds
  std::vector<float> inverse;  // what preconditions
  std::vector<WalkRun> runs;
  std::vector<WalkSeed> seeds;  // `pixel` is the node
  double tolerance;             // of the residual's norm, relative to the right side's
  std::int64_t most_iterations;
  std::int64_t size() const { return static_cast<std::int64_t>(inverse.size()); }

  // Whether the node that follows a run, told as a run of one, can go with it; then it does.
  bool join(WalkRun& run, const WalkRun& node) const;
};

template <class Real>
class WalkGradients {
 public:
  explicit WalkGradients(const WalkSystem& system);

  // Solves for a label. Returns iterations, or -1 if there were the most.
  std::int64_t solve(std::int32_t label);

  const Real* solution() const { return x_.data(); }  // of each node

 private:
  void begin(std::int32_t label);
  void turn(Real beta, Real alpha);
  double apply();
  void apply(const WalkRun& run, std::int64_t begin, std::int64_t end);
  void step_back(Real length);

  template <class F>
  void pieces(F&& f) const;
  std::array<double, 2> total() const;

  const WalkSystem& system_;
  std::int64_t n_;
  std::vector<Real> x_, r_, p_, q_;  // that of node i in p is [i + 1], between zeros
  std::vector<std::array<double, 2>> sums_;
  std::vector<std::size_t> first_run_;  // of each piece
  double norm2_ = 0, rho_ = 0;          // of r, and of r by what preconditions
};

extern template class WalkGradients<float>;
extern template class WalkGradients<double>;

}  // namespace msf
