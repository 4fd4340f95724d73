// relc in C: compiled explainers of ONNX models.
//
// Every function may be called from several threads at once, with the same explainer too. What a function gives is
// freed by the function of its name (relc_explainer_free, ..). Where a function fails it gives NULL, and leaves a message
// behind `error` if that is not NULL: free it with relc_string_free.
//
// Written by cbindgen from crates/relc-capi/src/lib.rs (RELC_BLESS=1 cargo test -p relc-capi).

#ifndef RELC_H
#define RELC_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

// A compiled explainer.
typedef struct relc_explainer relc_explainer;

// The explanation of a batch: one target of each sample.
typedef struct relc_explanation relc_explanation;

// A kernel that was compiled ahead of time.
typedef struct relc_kernel {
  uint64_t key[2];
  const void *code;
} relc_kernel;

// A model in an object file or a library of `relc compile --emit obj | staticlib`: what its header declares.
typedef struct relc_model {
  uint64_t layout;
  const struct relc_kernel *kernels;
  uint64_t kernel_count;
  const uint8_t *artifact;
  uint64_t artifact_bytes;
} relc_model;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of relc, such as "0.1.0". Not to be freed.
const char *relc_version(void);

// Loads an artifact (`relc compile MODEL -o FILE`) or compiles an ONNX model.
//
// `preset` is the name of a preset; NULL: that which the artifact was compiled with, for a model the default.
//
// # Safety
// `path` and `preset` are NULL or strings that end with a zero; `error` is NULL or may be written to.
struct relc_explainer *relc_load(const char *path,
                                 const char *preset,
                                 char **error);

// Loads a model that is linked into the program. On a machine with the instructions that it was compiled for nothing is
// compiled any more, on others it is compiled again from the model inside.
//
// # Safety
// `model` is NULL or what the header of an object file or a library declares, which stays where it is as long as the program
// runs; `error` is NULL or may be written to.
struct relc_explainer *relc_load_model(const struct relc_model *model,
                                       char **error);

// How many kernels were compiled when the explainer was loaded: 0 of a model that is linked into the program, on a machine
// that it was compiled for.
//
// # Safety
// As of `relc_input_name`.
size_t relc_kernels_compiled(const struct relc_explainer *explainer);

// Frees an explainer; NULL does nothing.
//
// # Safety
// `explainer` is NULL or what `relc_load` gave, and is not used afterwards.
void relc_explainer_free(struct relc_explainer *explainer);

// The name of the model's input. Lives as long as the explainer.
//
// # Safety
// `explainer` is NULL or what `relc_load` gave.
const char *relc_input_name(const struct relc_explainer *explainer);

// The rank of the model's input, the batch included; 0 for NULL.
//
// # Safety
// As of `relc_input_name`.
size_t relc_input_rank(const struct relc_explainer *explainer);

// The size of an axis of the model's input; 0 where the batch is, which may have any size, and where there is no axis.
//
// # Safety
// As of `relc_input_name`.
size_t relc_input_size(const struct relc_explainer *explainer,
                       size_t axis);

// How many outputs the model has; 0 for NULL.
//
// # Safety
// As of `relc_input_name`.
size_t relc_outputs(const struct relc_explainer *explainer);

// Explains a batch `f32[N,..]`, row-major and preprocessed as the model wants it.
//
// `shape` has `rank` sizes, the batch N first. `targets` has the output to explain of each of the N samples; NULL: the largest.
// The relevance starts from the seed of the preset.
//
// # Safety
// `explainer` is NULL or what `relc_load` gave; `shape` is NULL or has `rank` sizes; `input` is NULL or has as many values as
// they say, and `targets` N; `error` is NULL or may be written to.
struct relc_explanation *relc_explain(const struct relc_explainer *explainer,
                                      const float *input,
                                      const size_t *shape,
                                      size_t rank,
                                      const size_t *targets,
                                      char **error);

// Frees an explanation; NULL does nothing.
//
// # Safety
// `explanation` is NULL or what `relc_explain` gave, and is not used afterwards.
void relc_explanation_free(struct relc_explanation *explanation);

// The relevance of the input, `f32` in the input's shape. Lives as long as the explanation.
//
// # Safety
// `explanation` is NULL or what `relc_explain` gave.
const float *relc_relevance(const struct relc_explanation *explanation);

// The relevance of the input summed over its channels, `f32[N,..]` over the axes that are left; NULL if the input has no
// such axes. Lives as long as the explanation.
//
// # Safety
// As of `relc_relevance`.
const float *relc_map(const struct relc_explanation *explanation);

// The explained output `f64[N,K]`: logits, if the model ends in an activation. Lives as long as the explanation.
//
// # Safety
// As of `relc_relevance`.
const double *relc_logits(const struct relc_explanation *explanation);

// The output that was explained of each sample, N of them. Lives as long as the explanation.
//
// # Safety
// As of `relc_relevance`.
const size_t *relc_targets(const struct relc_explanation *explanation);

// `|sum R(input) - sum seed| / sum |seed|` of a sample; NaN for NULL and for samples that there are not.
//
// # Safety
// As of `relc_relevance`.
double relc_conservation_error(const struct relc_explanation *explanation,
                               size_t sample);

// What keeps the map of a sample from being an explanation, a line for each; empty if nothing. NULL for samples that
// there are not. Lives as long as the explanation.
//
// # Safety
// As of `relc_relevance`.
const char *relc_warnings(const struct relc_explanation *explanation,
                          size_t sample);

// Frees a message; NULL does nothing.
//
// # Safety
// `text` is NULL or a message that a function left behind `error`, and is not used afterwards.
void relc_string_free(char *text);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* RELC_H */
