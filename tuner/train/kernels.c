/* Batch norm and max pooling of channels-last images, on one thread, with the bits of torch's own operations.

   Torch's keep their sums in memory and write 8 bytes of index per pooled value; these keep them in registers and write
   one byte. The order of every sum and the rounding of every step are torch's, so the results are the same bits:
   kernels.py checks that before it uses them. Compiled twice, for values of type float and of type bfloat16 (-DBF16=1),
   for AVX-512, with GCC's or Clang's vector extension. Channels come in multiples of 16; rows are the examples' pixels. */

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define LANES 16
#define INLINE static inline __attribute__((always_inline))

typedef float Floats __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES), aligned(4)));
typedef uint32_t Words __attribute__((vector_size(4 * LANES), aligned(4)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES), aligned(2)));
typedef uint8_t Bytes __attribute__((vector_size(LANES), aligned(1)));

INLINE Words widen(const uint16_t *from) { /* which GCC makes five instructions of, where it is left to convert */
    return (Words)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)from));
}
INLINE void narrow(uint16_t *to, Words words) {
    _mm256_storeu_si256((void *)to, _mm512_cvtepi32_epi16((__m512i)words));
}

#if BF16
typedef uint16_t Value;
INLINE Floats load(const Value *from) { return (Floats)(widen(from) << 16); }
INLINE void store(Value *to, Floats values) { /* round to nearest, ties to even */
    Words bits = (Words)values, nan = (Words)(values != values);
    bits = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    narrow(to, (bits & ~nan) | (0xffff & nan));
}
INLINE void put_exact(Value *to, Floats values) { narrow(to, (Words)values >> 16); } /* of what load gave */
typedef uint16_t Bit;
typedef float Wide;
typedef Halves Bits;
#define MINUS_ZERO 0x8000
#else
typedef float Value;
INLINE Floats load(const Value *from) { return *(const Floats *)from; }
INLINE void store(Value *to, Floats values) { *(Floats *)to = values; }
#define put_exact store
typedef uint32_t Bit;
typedef double Wide;
typedef Words Bits;
#define MINUS_ZERO 0x80000000
#endif

INLINE Floats rounded(Floats product) { /* keeps it from being fused with the sum that it goes into */
    __asm__("" : "+v"(product));
    return product;
}
INLINE Floats get(const float *from) { return *(const Floats *)from; }
INLINE void put(float *to, Floats values) { *(Floats *)to = values; }
INLINE Floats choose(Ints where, Floats yes, Floats no) { return (Floats)(((Ints)yes & where) | ((Ints)no & ~where)); }

/* Call `part` for blocks of up to 4 vectors of channels, whose sums fit into registers. */
#define EACH_BLOCK(part, ...)                                                   \
    for (int64_t from = 0; from < channels; from += 4 * LANES) {                \
        switch (channels - from >= 4 * LANES ? 4 : (channels - from) / LANES) { \
        case 4: part(4, from, __VA_ARGS__); break;                              \
        case 3: part(3, from, __VA_ARGS__); break;                              \
        case 2: part(2, from, __VA_ARGS__); break;                              \
        case 1: part(1, from, __VA_ARGS__); break;                              \
        }                                                                       \
    }

INLINE void sum_squares(int count, int64_t from, const Value *x, int64_t rows, int64_t channels, float *mean,
                        float *squares) {
    Floats sum[4] = {0}, square[4] = {0};
    const Value *end = x + rows * channels;
    for (const Value *row = x + from; row < end; row += channels)
        for (int i = 0; i < count; i++) sum[i] += load(row + i * LANES);
    for (int i = 0; i < count; i++) sum[i] = sum[i] / (float)rows;
    for (const Value *row = x + from; row < end; row += channels)
        for (int i = 0; i < count; i++) {
            Floats apart = load(row + i * LANES) - sum[i];
            square[i] += apart * apart;
        }
    for (int i = 0; i < count; i++) {
        put(mean + from + i * LANES, sum[i]);
        put(squares + from + i * LANES, square[i]);
    }
}

INLINE void scale(int count, int64_t from, const Value *x, Value *y, int64_t rows, int64_t channels, const float *factor,
                  const float *shift) {
    Floats f[4], s[4];
    for (int i = 0; i < count; i++) f[i] = get(factor + from + i * LANES), s[i] = get(shift + from + i * LANES);
    for (int64_t at = from; at < rows * channels; at += channels)
        for (int i = 0; i < count; i++) store(y + at + i * LANES, load(x + at + i * LANES) * f[i] + s[i]);
}

/* Normalise x (rows, channels) into y by its own statistics; mean and invstd come out, the running ones are moved. */
void batch_norm(const Value *x, Value *y, int64_t rows, int64_t channels, const float *weight, const float *bias,
                float *running_mean, float *running_var, float momentum, double eps, float *mean, float *invstd,
                float *factor, float *shift) {
    EACH_BLOCK(sum_squares, x, rows, channels, mean, invstd)
    for (int64_t c = 0; c < channels; c++) {
        float squares = invstd[c], var = squares / (float)rows;
        Wide unbiased = squares / (float)(rows - 1);
        invstd[c] = (float)(1 / sqrt(var + eps));
        volatile float kept_mean = (1 - momentum) * running_mean[c], moved_mean = momentum * mean[c];
        volatile float kept_var = (1 - momentum) * running_var[c];
        volatile Wide moved_var = momentum * unbiased; /* volatile: rounded before they are added, as in torch */
        running_mean[c] = moved_mean + kept_mean;
        running_var[c] = moved_var + kept_var;
        factor[c] = invstd[c] * weight[c];
        shift[c] = bias[c] - mean[c] * factor[c];
    }
    EACH_BLOCK(scale, x, y, rows, channels, factor, shift)
}

INLINE void differentiate(int count, int64_t from, const Value *dy, const Value *x, Value *dx, int64_t rows,
                          int64_t channels, const float *weight, const float *mean, const float *invstd, float *dweight,
                          float *dbias) {
    Floats m[4], sum[4] = {0}, dot[4] = {0}, k[4], s[4], w[4];
    for (int i = 0; i < count; i++) m[i] = get(mean + from + i * LANES);
    for (int64_t at = from; at < rows * channels; at += channels)
        for (int i = 0; i < count; i++) {
            Floats d = load(dy + at + i * LANES);
            sum[i] += d;
            dot[i] += (load(x + at + i * LANES) - m[i]) * d;
        }
    for (int i = 0; i < count; i++) {
        s[i] = get(invstd + from + i * LANES), w[i] = get(weight + from + i * LANES);
        put(dbias + from + i * LANES, sum[i]);
        put(dweight + from + i * LANES, dot[i] * s[i]);
        k[i] = dot[i] * s[i] * s[i] / (float)rows;
        sum[i] = sum[i] / (float)rows;
    }
    for (int64_t at = from; at < rows * channels; at += channels)
        for (int i = 0; i < count; i++) {
            Floats apart = (load(x + at + i * LANES) - m[i]) * k[i];
            if (BF16) apart = rounded(apart); /* as torch's does */
            store(dx + at + i * LANES, (load(dy + at + i * LANES) - sum[i] - apart) * s[i] * w[i]);
        }
}

/* From dy (rows, channels) make dx and the gradients of weight and bias. */
void batch_norm_backward(const Value *dy, const Value *x, Value *dx, int64_t rows, int64_t channels, const float *weight,
                         const float *mean, const float *invstd, float *dweight, float *dbias) {
    EACH_BLOCK(differentiate, dy, x, dx, rows, channels, weight, mean, invstd, dweight, dbias)
}

/* Pool x (n, height, width, channels) over size x size windows into y; `which`, unless it is NULL, gets the place of the
   largest value in its window, which the gradient goes to. A NaN wins. */
INLINE void pool(const Value *x, Value *y, uint8_t *which, int64_t n, int64_t height, int64_t width, int64_t channels,
                 int64_t size) {
    for (int64_t image = 0; image < n; image++, x += height * width * channels)
        for (int64_t top = 0; top + size <= height; top += size)
            for (int64_t left = 0; left + size <= width; left += size)
                for (int64_t c = 0; c < channels; c += LANES, y += LANES) {
                    const Value *corner = x + (top * width + left) * channels + c;
                    Floats most = load(corner);
                    Ints place = {0};
                    for (int i = 0; i < size; i++)
                        for (int j = i == 0; j < size; j++) {
                            Floats value = load(corner + (i * width + j) * channels);
                            Ints more = (value > most) | (value != value);
                            most = choose(more, value, most);
                            place = ((i * (int)size + j) & more) | (place & ~more);
                        }
                    put_exact(y, most);
                    if (which) {
                        *(Bytes *)which = __builtin_convertvector(place, Bytes);
                        which += LANES;
                    }
                }
}

INLINE void spread(const Value *dy, const uint8_t *which, Value *dx, int64_t n, int64_t height, int64_t width,
                   int64_t channels, int64_t size) {
    for (int64_t image = 0; image < n; image++, dx += height * width * channels)
        for (int64_t top = 0; top + size <= height; top += size)
            for (int64_t left = 0; left + size <= width; left += size)
                for (int64_t c = 0; c < channels; c += LANES, dy += LANES, which += LANES) {
                    Value *corner = dx + (top * width + left) * channels + c;
                    Bits place = __builtin_convertvector(*(const Bytes *)which, Bits);
                    Bits d = *(const Bits *)dy;
                    d &= (Bits)(d != (Bit)MINUS_ZERO); /* torch adds it to 0 */
                    for (int i = 0; i < size; i++)
                        for (int j = 0; j < size; j++)
                            *(Bits *)(corner + (i * width + j) * channels) = d & (Bits)(place == (Bit)(i * size + j));
                }
}

void max_pool(const Value *x, Value *y, uint8_t *which, int64_t n, int64_t height, int64_t width, int64_t channels,
              int64_t size) {
    if (size == 2 && which) pool(x, y, which, n, height, width, channels, 2); /* unrolled */
    else pool(x, y, which, n, height, width, channels, size);
}

/* Send dy back to where the largest values lay; everything else of dx is 0. */
void max_pool_backward(const Value *dy, const uint8_t *which, Value *dx, int64_t n, int64_t height, int64_t width,
                       int64_t channels, int64_t size) {
    if (height % size || width % size) memset(dx, 0, n * height * width * channels * sizeof(Value));
    if (size == 2) spread(dy, which, dx, n, height, width, channels, 2);
    else spread(dy, which, dx, n, height, width, channels, size);
}
