// What every kernel shares. It is compiled as CUDA C by NVRTC; and as C++ for a host, with RELC_HOST, where blocks run one
// after the other, and the threads of a block phase by phase: what stands between PHASE and END is run for each thread t,
// and the next phase sees what all threads of this one wrote. In which order blocks and threads run must not matter: a host
// may run them backwards.
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
static thread_local bool backwards;
#define KERNEL(threads) static void
#define SHARED(type, name, count) static thread_local type name[count]
#define PHASE(threads)                         \
  for (int turn = 0; turn < (threads); ++turn) { \
    const int t = backwards ? (threads) - 1 - turn : turn; \
    (void)t;
#define END }
#define END_WARP }
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
#define END_WARP }
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

// Those of a tile's weights that a thread brings to a block's memory, where a term's are `stride` apart; 0 beyond what there
// is. The terms of a sum are channels times taps.
template <class G, int TILE, int DEPTH, class Weight>
DEVICE void gather_weights(float *rows, int stride, int group, int first_row, int term, int t, Weight weight) {
  constexpr int TAPS = G::TAPS_Z * G::TAPS_Y * G::TAPS_X, TERMS = G::REDUCED * TAPS;
  constexpr bool BY_ROWS = G::PRODUCED_STEP < G::REDUCED_STEP;
  UNROLL for (int e = t; e < DEPTH * TILE; e += THREADS) {
    // Neighbouring threads read neighbouring weights.
    const int d = BY_ROWS ? e / TILE : e % DEPTH, row = BY_ROWS ? e % TILE : e / DEPTH;
    const int r = term + d, produced = first_row + row;
    float value = 0.0f;
    if (r < TERMS && produced < G::PRODUCED) {
      const int tap = r % TAPS, tx = tap % G::TAPS_X, ty = tap / G::TAPS_X % G::TAPS_Y;
      value = weight(weight_at<G>(group, produced, r / TAPS, tap / G::TAPS_X / G::TAPS_Y, ty, tx));
    }
    rows[d * stride + row] = value;
  }
}

// As gather_weights, of the pixels.
template <class G, int TILE, int DEPTH>
DEVICE void gather_pixels(float *columns, int stride, const float *input, int group, Long first_column, Long all, int term,
                          int t) {
  constexpr int TAPS = G::TAPS_Z * G::TAPS_Y * G::TAPS_X, TERMS = G::REDUCED * TAPS;
  // A thread's are all of one column.
  const Long column = first_column + t % TILE;
  const Pixel<G> at = pixel_of<G>(column);
  UNROLL for (int d = t / TILE; d < DEPTH; d += THREADS / TILE) {
    const int r = term + d;
    float value = 0.0f;
    if (r < TERMS && column < all) {
      const int tap = r % TAPS, tx = tap % G::TAPS_X, ty = tap / G::TAPS_X % G::TAPS_Y;
      value = input_at<G>(input, at, group * G::REDUCED + r / TAPS, tap / G::TAPS_X / G::TAPS_Y, ty, tx);
    }
    columns[d * stride + t % TILE] = value;
  }
}

// Ends an output of a product of matrices, if there is one at this row and column.
template <class G, class Finish>
DEVICE void finish_output(float sum, int group, int produced, Long column, Long all, Finish finish) {
  if (column >= all || produced >= G::PRODUCED) return;
  constexpr Long out = (Long)G::OUT_Z * G::OUT_Y * G::OUT_X;
  const Pixel<G> at = pixel_of<G>(column);
  const int channel = group * G::PRODUCED + produced;
  finish(sum, channel, ((Long)at.sample * (G::GROUPS * G::PRODUCED) + channel) * out + target_of<G>(at), at.sample);
}

// A product of matrices: rows are the produced channels of group blockIdx.z, columns the pixels of all samples; terms are
// summed in one order whatever the tile. A block computes TILE x TILE outputs.
template <class G, int TILE, class Weight, class Finish>
DEVICE void conv_gemm(const float *input, int samples, Weight weight, Finish finish) {
  constexpr int DEPTH = TILE == 128 ? 8 : 16, SIDE = TILE / 16;
  constexpr int TERMS = G::REDUCED * G::TAPS_Z * G::TAPS_Y * G::TAPS_X;
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
    gather_weights<G, TILE, DEPTH>(rows, TILE + 4, group, first_row, term, t, weight);
    gather_pixels<G, TILE, DEPTH>(columns, TILE, input, group, first_column, all, term, t);
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
  const int ty = t / 16, tx = t % 16;
  UNROLL for (int j = 0; j < SIDE; ++j) {
    UNROLL for (int k = 0; k < SIDE; ++k) {
      const int produced = first_row + k * 16 + ty;
      finish_output<G>(MINE(sums)[k * SIDE + j], group, produced, first_column + j * 16 + tx, all, finish);
    }
  }
  END
}

// The nearest number of TF32, ties away from 0, as the bits of a float.
DEVICE unsigned tf32(float value) {
#ifdef RELC_HOST
  unsigned bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  const bool finite = (bits & 0x7f800000u) != 0x7f800000u;
  return finite ? (bits + 0x1000u) & 0xffffe000u : bits;
#else
  unsigned bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits;
#endif
}

DEVICE float of_bits(unsigned bits) {
#ifdef RELC_HOST
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
#else
  return __uint_as_float(bits);
#endif
}

// Each warp's `sums += a b` on tensor cores, in ROWS x COLUMNS tiles of 16 x 8 outputs and 8 terms. The 32 threads of a warp
// hold a tile as `mma.m16n8k8` of PTX has it: of a, thread 4 r + k has rows r and r + 8 under term k, and then both under
// k + 4; of b, thread 4 c + k has terms k and k + 4 of column c; of the sums, thread 4 r + c has columns 2 c and 2 c + 1 of
// row r, and then of row r + 8.
template <int ROWS, int COLUMNS, int KEPT_BY>
DEVICE void tensor_products(float (&sums)[KEPT_BY][ROWS * COLUMNS * 4], const unsigned (&a)[KEPT_BY][ROWS * 4],
                            const unsigned (&b)[KEPT_BY][COLUMNS * 2]) {
#ifdef RELC_HOST
  for (int warp = 0; warp < KEPT_BY; warp += 32)
    for (int tile = 0; tile < ROWS * COLUMNS; ++tile) {
      float left[16][8], right[8][8], sum[16][8];
      for (int lane = 0; lane < 32; ++lane) {
        const unsigned *l = a[warp + lane] + tile / COLUMNS * 4, *r = b[warp + lane] + tile % COLUMNS * 2;
        for (int e = 0; e < 4; ++e) left[lane / 4 + e % 2 * 8][lane % 4 + e / 2 * 4] = of_bits(l[e]);
        for (int e = 0; e < 2; ++e) right[lane % 4 + e * 4][lane / 4] = of_bits(r[e]);
        for (int e = 0; e < 4; ++e) sum[lane / 4 + e / 2 * 8][lane % 4 * 2 + e % 2] = sums[warp + lane][tile * 4 + e];
      }
      for (int row = 0; row < 16; ++row)
        for (int k = 0; k < 8; ++k)
          for (int column = 0; column < 8; ++column)
            sum[row][column] = fmaf(left[row][k], right[k][column], sum[row][column]);
      for (int lane = 0; lane < 32; ++lane)
        for (int e = 0; e < 4; ++e) sums[warp + lane][tile * 4 + e] = sum[lane / 4 + e / 2 * 8][lane % 4 * 2 + e % 2];
    }
#else
  UNROLL for (int tile = 0; tile < ROWS * COLUMNS; ++tile) {
    float *s = sums[0] + tile * 4;
    const unsigned *l = a[0] + tile / COLUMNS * 4, *r = b[0] + tile % COLUMNS * 2;
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(s[0]), "+f"(s[1]), "+f"(s[2]), "+f"(s[3])
        : "r"(l[0]), "r"(l[1]), "r"(l[2]), "r"(l[3]), "r"(r[0]), "r"(r[1]));
  }
#endif
}

// As conv_gemm, on tensor cores: factors are rounded to TF32, or with PRODUCTS of 3 to two numbers of TF32, whose least
// product is left out. Two rows of four warps; the terms of a sum are in the order of conv_gemm.
template <class G, int TILE, int PRODUCTS, class Weight, class Finish>
DEVICE void conv_tensor(const float *input, int samples, Weight weight, Finish finish) {
  constexpr int DEPTH = 16, ROWS = TILE / 32, COLUMNS = TILE / 32, STRIDE = TILE + 8;
  constexpr int TERMS = G::REDUCED * G::TAPS_Z * G::TAPS_Y * G::TAPS_X;
  constexpr Long volume = (Long)G::COUNT_Z * G::COUNT_Y * G::COUNT_X;
  SHARED(float, rows, DEPTH * STRIDE);
  SHARED(float, columns, DEPTH * STRIDE);
  KEPT(THREADS, float, sums, ROWS * COLUMNS * 4);
  KEPT(THREADS, unsigned, a, ROWS * 4);
  KEPT(THREADS, unsigned, b, COLUMNS * 2);
  KEPT(THREADS, unsigned, low_a, ROWS * 4);
  KEPT(THREADS, unsigned, low_b, COLUMNS * 2);
  const int group = blockIdx.z, first_row = blockIdx.y * TILE;
  const Long first_column = (Long)blockIdx.x * TILE, all = samples * volume;
  PHASE(THREADS)
  UNROLL for (int k = 0; k < ROWS * COLUMNS * 4; ++k) MINE(sums)[k] = 0.0f;
  END_WARP
  for (int term = 0; term < TERMS; term += DEPTH) {
    PHASE(THREADS)
    gather_weights<G, TILE, DEPTH>(rows, STRIDE, group, first_row, term, t, weight);
    gather_pixels<G, TILE, DEPTH>(columns, STRIDE, input, group, first_column, all, term, t);
    END
    for (int k = 0; k < DEPTH; k += 8) {
      PHASE(THREADS)
      const int warp = t / 32, lane = t % 32, d = k + lane % 4;
      UNROLL for (int e = 0; e < ROWS * 4; ++e) {
        const int row = (warp / 4 * ROWS + e / 4) * 16 + lane / 4 + e % 2 * 8;
        const float value = rows[(d + e % 4 / 2 * 4) * STRIDE + row];
        MINE(a)[e] = tf32(value);
        if (PRODUCTS == 3) MINE(low_a)[e] = tf32(value - of_bits(MINE(a)[e]));
      }
      UNROLL for (int e = 0; e < COLUMNS * 2; ++e) {
        const int column = (warp % 4 * COLUMNS + e / 2) * 8 + lane / 4;
        const float value = columns[(d + e % 2 * 4) * STRIDE + column];
        MINE(b)[e] = tf32(value);
        if (PRODUCTS == 3) MINE(low_b)[e] = tf32(value - of_bits(MINE(b)[e]));
      }
      END_WARP
      if (PRODUCTS == 3) {
        tensor_products<ROWS, COLUMNS>(sums_of, low_a_of, b_of);
        tensor_products<ROWS, COLUMNS>(sums_of, a_of, low_b_of);
      }
      tensor_products<ROWS, COLUMNS>(sums_of, a_of, b_of);
    }
    PHASE(THREADS)
    END
  }
  PHASE(THREADS)
  const int warp = t / 32, lane = t % 32;
  UNROLL for (int e = 0; e < ROWS * COLUMNS * 4; ++e) {
    const int tile = e / 4;
    const int row = (warp / 4 * ROWS + tile / COLUMNS) * 16 + lane / 4 + e % 4 / 2 * 8;
    const int column = (warp % 4 * COLUMNS + tile % COLUMNS) * 8 + lane % 4 * 2 + e % 2;
    finish_output<G>(MINE(sums)[e], group, first_row + row, first_column + column, all, finish);
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
