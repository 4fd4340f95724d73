// What every kernel shares. It is compiled as CUDA C by NVRTC; and as C++ for a host, with RELC_HOST, where blocks run one
// after the other, and the threads of a block phase by phase: what stands between PHASE and END is run for each thread t,
// and the next phase sees what all threads of this one wrote.
//
// So that both are one text: memory of a block is SHARED, what a thread keeps from one phase to the next is declared by KEPT
// and read by MINE, and nobody calls __syncthreads or reads threadIdx.

#ifdef RELC_HOST
#include <math.h>
#define DEVICE static inline
struct Position {
  unsigned x, y, z;
};
static thread_local Position blockIdx, gridDim;
#define KERNEL(threads) static void
#define SHARED(type, name, count) static thread_local type name[count]
#define PHASE(threads) for (int t = 0; t < (threads); ++t) {
#define END }
#define KEPT(threads, type, name, count) static thread_local type name##_of[threads][count]
#define MINE(name) name##_of[t]
#define UNROLL
#define INFINITE ((double)INFINITY)
#else
#define DEVICE static __device__ __forceinline__
#define KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads)
#define SHARED(type, name, count) __shared__ type name[count]
#define PHASE(threads)           \
  {                              \
    const int t = threadIdx.x;
#define END       \
  __syncthreads(); \
  }
#define KEPT(threads, type, name, count) type name##_of[1][count]
#define MINE(name) name##_of[0]
#define UNROLL _Pragma("unroll")
#define INFINITE (__longlong_as_double(0x7ff0000000000000LL))
#endif

typedef long long Long;


// Threads of a block that computes elements, and of one that sums them.
#define THREADS 256

// Each of so many elements, i, by a thread of its own.
#define EACH(total)                                  \
  PHASE(THREADS)                                     \
  const Long i = (Long)blockIdx.x * THREADS + t;     \
  if (i < (Long)(total)) {
#define END_EACH \
  }              \
  END

DEVICE float positive(float x) { return x > 0.0f ? x : 0.0f; }
DEVICE float negative(float x) { return x < 0.0f ? x : 0.0f; }

// The elements that a block sums.
struct Rows {
  Long first, last;
};

// All of a row.
DEVICE Rows Alone(Long total) { return {0, total}; }

// Those of a row that are this block's, of gridDim.x.
DEVICE Rows Shared(Long total) {
  const Long chunk = (total + gridDim.x - 1) / gridDim.x, first = chunk * blockIdx.x;
  return {first, first + chunk < total ? first + chunk : total};
}

// What a block's elements add up to: `start` and then `add(i, sums)` for each of them, in an order that is always the same;
// `join` adds the sums of others.
template <int K, class Add, class Join>
DEVICE void reduce(Rows rows, const double (&start)[K], double *out, Add add, Join join) {
  SHARED(double, part, THREADS * K);
  PHASE(THREADS)
  double sums[K];
  for (int k = 0; k < K; ++k) sums[k] = start[k];
  for (Long i = rows.first + t; i < rows.last; i += THREADS) add(i, sums);
  for (int k = 0; k < K; ++k) part[t * K + k] = sums[k];
  END
  for (int half = THREADS / 2; half > 0; half /= 2) {
    PHASE(THREADS)
    if (t < half) join(part + t * K, part + (t + half) * K);
    END
  }
  PHASE(THREADS)
  if (t == 0)
    for (int k = 0; k < K; ++k) out[k] = part[k];
  END
}

// Sum, sum of magnitudes, least and greatest, as `Stats`.
#define NOTHING {0.0, 0.0, INFINITE, -INFINITE}

DEVICE void count(double *sums, double value) {
  sums[0] += value;
  sums[1] += value < 0.0 ? -value : value;
  sums[2] = value < sums[2] ? value : sums[2];
  sums[3] = value > sums[3] ? value : sums[3];
}

DEVICE void join_counts(double *sums, const double *other) {
  sums[0] += other[0];
  sums[1] += other[1];
  sums[2] = other[2] < sums[2] ? other[2] : sums[2];
  sums[3] = other[3] > sums[3] ? other[3] : sums[3];
}

template <int K>
DEVICE void join_sums(double *sums, const double *other) {
  for (int k = 0; k < K; ++k) sums[k] += other[k];
}

// A convolution's geometry G is a struct of constants, of one phase (see `relc_program::conv::Axis`): outputs
// `origin + q * out_step`, from inputs `q * in_step + offset + tap * offset_step`, for the kernel's positions
// `k + tap * k_step`, along each of three axes. GROUPS groups, each of REDUCED channels that are summed over and PRODUCED
// ones; a weight is at `group * GROUP_STEP + produced * PRODUCED_STEP + reduced * REDUCED_STEP + position`.

template <class G>
struct Pixel {
  int sample, z, y, x;
};

// The pixel of this number among those of all samples.
template <class G>
DEVICE Pixel<G> pixel_of(Long number) {
  constexpr int plane = G::COUNT_Y * G::COUNT_X;
  constexpr int volume = G::COUNT_Z * plane;
  const int sample = (int)(number / volume), place = (int)(number % volume);
  return {sample, place / plane, place % plane / G::COUNT_X, place % G::COUNT_X};
}

// Where it lies in a plane of the output.
template <class G>
DEVICE int target_of(const Pixel<G> &at) {
  const int z = G::ORIGIN_Z + at.z * G::OUT_STEP_Z, y = G::ORIGIN_Y + at.y * G::OUT_STEP_Y;
  return (z * G::OUT_Y + y) * G::OUT_X + G::ORIGIN_X + at.x * G::OUT_STEP_X;
}

// The input of a channel, of all groups, under a tap; 0 beyond the borders.
template <class G>
DEVICE float input_at(const float *input, const Pixel<G> &at, int channel, int tz, int ty, int tx) {
  const int z = at.z * G::IN_STEP_Z + G::OFFSET_Z + tz * G::OFFSET_STEP_Z;
  const int y = at.y * G::IN_STEP_Y + G::OFFSET_Y + ty * G::OFFSET_STEP_Y;
  const int x = at.x * G::IN_STEP_X + G::OFFSET_X + tx * G::OFFSET_STEP_X;
  if ((unsigned)z >= (unsigned)G::IN_Z || (unsigned)y >= (unsigned)G::IN_Y || (unsigned)x >= (unsigned)G::IN_X)
    return 0.0f;
  constexpr Long slice = (Long)G::IN_Y * G::IN_X;
  const Long plane = ((Long)at.sample * (G::GROUPS * G::REDUCED) + channel) * G::IN_Z + z;
  return input[plane * slice + y * G::IN_X + x];
}

template <class G>
DEVICE Long weight_at(int group, int produced, int reduced, int tz, int ty, int tx) {
  const int z = G::K_Z + tz * G::K_STEP_Z, y = G::K_Y + ty * G::K_STEP_Y, x = G::K_X + tx * G::K_STEP_X;
  return (Long)group * G::GROUP_STEP + (Long)produced * G::PRODUCED_STEP + (Long)reduced * G::REDUCED_STEP +
         (z * G::KERNEL_Y + y) * G::KERNEL_X + x;
}

// Each output by a thread of its own. `form(w)` is what is multiplied by; `finish(sum, channel, index)` ends an output.
template <class G, class Weight, class Finish>
DEVICE void conv_direct(const float *input, int samples, Weight weight, Finish finish) {
  constexpr Long volume = (Long)G::COUNT_Z * G::COUNT_Y * G::COUNT_X;
  constexpr Long channels = (Long)G::GROUPS * G::PRODUCED;
  EACH(samples * channels * volume)
  const Long row = i / volume;
  const int channel = (int)(row % channels), group = channel / G::PRODUCED, produced = channel % G::PRODUCED;
  const Pixel<G> at = pixel_of<G>(row / channels * volume + i % volume);
  float sum = 0.0f;
  for (int reduced = 0; reduced < G::REDUCED; ++reduced)
    for (int tz = 0; tz < G::TAPS_Z; ++tz)
      for (int ty = 0; ty < G::TAPS_Y; ++ty)
        for (int tx = 0; tx < G::TAPS_X; ++tx) {
          const float x = input_at<G>(input, at, group * G::REDUCED + reduced, tz, ty, tx);
          sum = fmaf(x, weight(weight_at<G>(group, produced, reduced, tz, ty, tx)), sum);
        }
  constexpr Long out = (Long)G::OUT_Z * G::OUT_Y * G::OUT_X;
  finish(sum, channel, ((Long)at.sample * channels + channel) * out + target_of<G>(at), at.sample);
  END_EACH
}

// As conv_direct, of a transposed convolution as a whole, whose strides have so many residues that each is no kernel of its
// own: each output looks for the taps that meet it.
template <class G, class Weight, class Finish>
DEVICE void conv_transposed(const float *input, int samples, Weight weight, Finish finish) {
  constexpr int plane = G::OUT_Y * G::OUT_X, volume = G::OUT_Z * plane, channels = G::GROUPS * G::PRODUCED;
  EACH((Long)samples * channels * volume)
  const int place = (int)(i % volume), channel = (int)(i / volume % channels), sample = (int)(i / volume / channels);
  const int group = channel / G::PRODUCED, produced = channel % G::PRODUCED;
  float sum = 0.0f;
  for (int kz = 0; kz < G::KERNEL_Z; ++kz) {
    const int z = place / plane + G::PAD_Z - kz * G::DILATION_Z;
    if (z < 0 || z % G::STRIDE_Z || z / G::STRIDE_Z >= G::IN_Z) continue;
    for (int ky = 0; ky < G::KERNEL_Y; ++ky) {
      const int y = place / G::OUT_X % G::OUT_Y + G::PAD_Y - ky * G::DILATION_Y;
      if (y < 0 || y % G::STRIDE_Y || y / G::STRIDE_Y >= G::IN_Y) continue;
      for (int kx = 0; kx < G::KERNEL_X; ++kx) {
        const int x = place % G::OUT_X + G::PAD_X - kx * G::DILATION_X;
        if (x < 0 || x % G::STRIDE_X || x / G::STRIDE_X >= G::IN_X) continue;
        for (int reduced = 0; reduced < G::REDUCED; ++reduced) {
          const Long row = ((Long)sample * (G::GROUPS * G::REDUCED) + group * G::REDUCED + reduced) * G::IN_Z;
          const Long from = ((row + z / G::STRIDE_Z) * G::IN_Y + y / G::STRIDE_Y) * G::IN_X + x / G::STRIDE_X;
          const Long at = (Long)group * G::GROUP_STEP + (Long)produced * G::PRODUCED_STEP +
                          (Long)reduced * G::REDUCED_STEP + (kz * G::KERNEL_Y + ky) * G::KERNEL_X + kx;
          sum = fmaf(input[from], weight(at), sum);
        }
      }
    }
  }
  finish(sum, channel, i, sample);
  END_EACH
}

// A product of matrices: rows are the produced channels of group blockIdx.z, columns the pixels of all samples; the terms of
// a sum are channels times taps, in this order whatever the tile. A block computes TILE x TILE outputs.
template <class G, int TILE, class Weight, class Finish>
DEVICE void conv_gemm(const float *input, int samples, Weight weight, Finish finish) {
  constexpr int DEPTH = TILE == 128 ? 8 : 16, SIDE = TILE / 16;
  constexpr int TAPS = G::TAPS_Z * G::TAPS_Y * G::TAPS_X, TERMS = G::REDUCED * TAPS;
  constexpr bool BY_ROWS = G::PRODUCED_STEP < G::REDUCED_STEP;
  constexpr Long volume = (Long)G::COUNT_Z * G::COUNT_Y * G::COUNT_X;
  SHARED(float, rows, DEPTH * (TILE + 4));
  SHARED(float, columns, DEPTH * TILE);
  KEPT(THREADS, float, sums, SIDE * SIDE);
  const int group = blockIdx.z, first_row = blockIdx.y * TILE;
  const Long first_column = (Long)blockIdx.x * TILE, all = samples * volume;
  PHASE(THREADS)
  UNROLL for (int k = 0; k < SIDE * SIDE; ++k) MINE(sums)[k] = 0.0f;
  END
  for (int term = 0; term < TERMS; term += DEPTH) {
    PHASE(THREADS)
    UNROLL for (int e = t; e < DEPTH * TILE; e += THREADS) {
      // Neighbouring threads read neighbouring weights.
      const int d = BY_ROWS ? e / TILE : e % DEPTH, row = BY_ROWS ? e % TILE : e / DEPTH;
      const int r = term + d, produced = first_row + row;
      float value = 0.0f;
      if (r < TERMS && produced < G::PRODUCED) {
        const int tap = r % TAPS, tx = tap % G::TAPS_X, ty = tap / G::TAPS_X % G::TAPS_Y;
        value = weight(weight_at<G>(group, produced, r / TAPS, tap / G::TAPS_X / G::TAPS_Y, ty, tx));
      }
      rows[d * (TILE + 4) + row] = value;
    }
    UNROLL for (int e = t; e < DEPTH * TILE; e += THREADS) {
      const int d = e / TILE, r = term + d;
      const Long column = first_column + e % TILE;
      float value = 0.0f;
      if (r < TERMS && column < all) {
        const int tap = r % TAPS, tx = tap % G::TAPS_X, ty = tap / G::TAPS_X % G::TAPS_Y;
        const int channel = group * G::REDUCED + r / TAPS;
        value = input_at<G>(input, pixel_of<G>(column), channel, tap / G::TAPS_X / G::TAPS_Y, ty, tx);
      }
      columns[e] = value;
    }
    END
    PHASE(THREADS)
    const int ty = t / 16, tx = t % 16;
    UNROLL for (int d = 0; d < DEPTH; ++d) {
      float a[SIDE], b[SIDE];
      UNROLL for (int k = 0; k < SIDE; ++k) a[k] = rows[d * (TILE + 4) + k * 16 + ty];
      UNROLL for (int k = 0; k < SIDE; ++k) b[k] = columns[d * TILE + k * 16 + tx];
      UNROLL for (int k = 0; k < SIDE; ++k) {
        UNROLL for (int j = 0; j < SIDE; ++j) MINE(sums)[k * SIDE + j] = fmaf(b[j], a[k], MINE(sums)[k * SIDE + j]);
      }
    }
    END
  }
  PHASE(THREADS)
  constexpr Long out = (Long)G::OUT_Z * G::OUT_Y * G::OUT_X;
  const int ty = t / 16, tx = t % 16;
  UNROLL for (int j = 0; j < SIDE; ++j) {
    const Long column = first_column + j * 16 + tx;
    if (column < all) {
      const Pixel<G> at = pixel_of<G>(column);
      UNROLL for (int k = 0; k < SIDE; ++k) {
        const int produced = first_row + k * 16 + ty;
        if (produced < G::PRODUCED) {
          const int channel = group * G::PRODUCED + produced;
          const Long index = ((Long)at.sample * (G::GROUPS * G::PRODUCED) + channel) * out + target_of<G>(at);
          finish(MINE(sums)[k * SIDE + j], channel, index, at.sample);
        }
      }
    }
  }
  END
}

// A window's geometry W: along each axis IN inputs, OUT windows, and KERNEL, STRIDE, PAD, PAD_END, DILATION.
struct Range {
  int first, last; // taps
};

// The taps of a window along an axis that meet an input.
DEVICE Range taps_of(int window, int kernel, int stride, int pad, int dilation, int size) {
  const int start = window * stride - pad;
  const int first = start >= 0 ? 0 : (-start + dilation - 1) / dilation;
  const int beyond = size - start <= 0 ? 0 : (size - start + dilation - 1) / dilation;
  const int last = beyond < kernel ? beyond : kernel;
  return {first < last ? first : last, last};
}

// The windows along an axis of which some tap meets an input, at most; those of which none does are among them.
DEVICE Range windows_over(int input, int kernel, int stride, int pad, int dilation, int windows) {
  const int reach = (kernel - 1) * dilation, behind = input + pad;
  const int first = behind - reach <= 0 ? 0 : (behind - reach + stride - 1) / stride;
  const int last = behind / stride + 1;
  return {first, last < windows ? last : windows};
}

#define TAPS_OF(W, axis, window) \
  taps_of(window, W::KERNEL_##axis, W::STRIDE_##axis, W::PAD_##axis, W::DILATION_##axis, W::IN_##axis)
#define WINDOWS_OVER(W, axis, input) \
  windows_over(input, W::KERNEL_##axis, W::STRIDE_##axis, W::PAD_##axis, W::DILATION_##axis, W::OUT_##axis)
#define INPUT_OF(W, axis, window, tap) ((window) * W::STRIDE_##axis - W::PAD_##axis + (tap) * W::DILATION_##axis)

// The place in its plane of each valid input under a window, in row-major order.
template <class W, class Visit>
DEVICE void visit_taps(int place, Visit visit) {
  const int z = place / (W::OUT_Y * W::OUT_X), y = place / W::OUT_X % W::OUT_Y, x = place % W::OUT_X;
  const Range zs = TAPS_OF(W, Z, z), ys = TAPS_OF(W, Y, y), xs = TAPS_OF(W, X, x);
  for (int tz = zs.first; tz < zs.last; ++tz)
    for (int ty = ys.first; ty < ys.last; ++ty)
      for (int tx = xs.first; tx < xs.last; ++tx)
        visit((INPUT_OF(W, Z, z, tz) * W::IN_Y + INPUT_OF(W, Y, y, ty)) * W::IN_X + INPUT_OF(W, X, x, tx));
}

// How many valid inputs are under a window.
template <class W>
DEVICE int taps_under(int place) {
  const int z = place / (W::OUT_Y * W::OUT_X), y = place / W::OUT_X % W::OUT_Y, x = place % W::OUT_X;
  const Range zs = TAPS_OF(W, Z, z), ys = TAPS_OF(W, Y, y), xs = TAPS_OF(W, X, x);
  return (zs.last - zs.first) * (ys.last - ys.first) * (xs.last - xs.first);
}

// How many taps are under a window with padding, but not behind it.
template <class W>
DEVICE int padded_taps(int place) {
  const int z = place / (W::OUT_Y * W::OUT_X), y = place / W::OUT_X % W::OUT_Y, x = place % W::OUT_X;
#define PADDED(axis, window) \
  taps_of(window, W::KERNEL_##axis, W::STRIDE_##axis, 0, W::DILATION_##axis, W::IN_##axis + W::PAD_##axis + W::PAD_END_##axis).last
  return PADDED(Z, z) * PADDED(Y, y) * PADDED(X, x);
#undef PADDED
}

// The place of each window that has a tap over an input.
template <class W, class Visit>
DEVICE void visit_windows(int place, Visit visit) {
  const int z = place / (W::IN_Y * W::IN_X), y = place / W::IN_X % W::IN_Y, x = place % W::IN_X;
  const Range zs = WINDOWS_OVER(W, Z, z), ys = WINDOWS_OVER(W, Y, y), xs = WINDOWS_OVER(W, X, x);
  for (int wz = zs.first; wz < zs.last; ++wz) {
    if ((z - INPUT_OF(W, Z, wz, 0)) % W::DILATION_Z) continue;
    for (int wy = ys.first; wy < ys.last; ++wy) {
      if ((y - INPUT_OF(W, Y, wy, 0)) % W::DILATION_Y) continue;
      for (int wx = xs.first; wx < xs.last; ++wx)
        if ((x - INPUT_OF(W, X, wx, 0)) % W::DILATION_X == 0) visit((wz * W::OUT_Y + wy) * W::OUT_X + wx);
    }
  }
}

// Relevance that no denominator divides, where s is 0, goes evenly to the inputs under its window: to those of its group,
// each of INPUTS channels, from OUTPUTS channels. By one block for each sample; it is rare. Leaves what was spread and what
// was lost, the counts of what each element got, and those of the whole output; the last tells whether anything was done.
template <class W, int GROUPS, int INPUTS, int OUTPUTS>
DEVICE void spread(const float *r, const float *s, float *out, int flag, double *shares, double *sums) {
  constexpr int windows = W::OUT_Z * W::OUT_Y * W::OUT_X, pixels = W::IN_Z * W::IN_Y * W::IN_X;
  SHARED(double, part, THREADS * 10);
  if (!flag) {
    PHASE(THREADS)
    if (t == 0) sums[10] = 0.0;
    END
    return;
  }
  // What each window of a group has.
  PHASE(THREADS)
  for (int i = t; i < GROUPS * windows; i += THREADS) {
    double share = 0.0;
    for (int c = 0; c < OUTPUTS; ++c) {
      const Long at = (Long)(i / windows * OUTPUTS + c) * windows + i % windows;
      if (r[at] != 0.0f && s[at] == 0.0f) share += r[at];
    }
    shares[i] = share;
  }
  END
  PHASE(THREADS)
  double mine[10] = {0.0, 0.0, 0.0, 0.0, INFINITE, -INFINITE, 0.0, 0.0, INFINITE, -INFINITE};
  for (int i = t; i < GROUPS * windows; i += THREADS) mine[taps_under<W>(i % windows) == 0] += shares[i];
  for (Long i = t; i < (Long)GROUPS * INPUTS * pixels; i += THREADS) {
    const double *own = shares + i / ((Long)INPUTS * pixels) * windows;
    double share = 0.0;
    visit_windows<W>((int)(i % pixels), [&](int window) {
      if (own[window] != 0.0) share += own[window] / ((double)taps_under<W>(window) * INPUTS);
    });
    if (share != 0.0) {
      out[i] += (float)share;
      count(mine + 2, (float)share);
    }
    count(mine + 6, out[i]);
  }
  for (int k = 0; k < 10; ++k) part[t * 10 + k] = mine[k];
  END
  for (int half = THREADS / 2; half > 0; half /= 2) {
    PHASE(THREADS)
    if (t < half) {
      join_sums<2>(part + t * 10, part + (t + half) * 10);
      join_counts(part + t * 10 + 2, part + (t + half) * 10 + 2);
      join_counts(part + t * 10 + 6, part + (t + half) * 10 + 6);
    }
    END
  }
  PHASE(THREADS)
  if (t == 0) {
    for (int k = 0; k < 10; ++k) sums[k] = part[k];
    sums[10] = 1.0;
  }
  END
}
