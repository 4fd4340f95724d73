// Explains a batch of arrays by a compiled explainer, from C.
//
//   explain MODEL.relc INPUT.f32 OUT.f32 [TARGET]
//
// INPUT.f32 holds the samples as the model takes them, f32 in the machine's order of bytes, row-major; OUT.f32 gets their
// relevance in the same form. An ONNX model does in place of the artifact, and is compiled first.

#include <relc.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const char *what, char *error) {
    fprintf(stderr, "error: %s: %s\n", what, error ? error : "?");
    relc_string_free(error);
    return 1;
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: %s MODEL.relc INPUT.f32 OUT.f32 [TARGET]\n", argv[0]);
        return 2;
    }
    char *error = NULL;
    relc_explainer *explainer = relc_load(argv[1], NULL, &error);
    if (!explainer) return fail(argv[1], error);

    // How many values a sample has, and how many samples the file.
    size_t rank = relc_input_rank(explainer), sample = 1, shape[16];
    for (size_t axis = 1; axis < rank && axis < 16; axis++) {
        shape[axis] = relc_input_size(explainer, axis);
        sample *= shape[axis];
    }
    FILE *file = fopen(argv[2], "rb");
    if (!file) return fail(argv[2], NULL);
    fseek(file, 0, SEEK_END);
    long bytes = ftell(file);
    rewind(file);
    size_t values = (size_t)bytes / sizeof(float);
    shape[0] = values / sample;
    float *input = malloc(values * sizeof(float) + 1);
    if (!input || fread(input, sizeof(float), values, file) != values) return fail(argv[2], NULL);
    fclose(file);

    size_t *targets = NULL;
    if (argc > 4) {
        targets = malloc(shape[0] * sizeof(size_t) + 1);
        for (size_t n = 0; n < shape[0]; n++) targets[n] = (size_t)strtoull(argv[4], NULL, 10);
    }
    relc_explanation *explanation = relc_explain(explainer, input, shape, rank, targets, &error);
    free(input);
    free(targets);
    if (!explanation) {
        relc_explainer_free(explainer);
        return fail(argv[2], error);
    }

    size_t outputs = relc_outputs(explainer);
    for (size_t n = 0; n < shape[0]; n++) {
        size_t target = relc_targets(explanation)[n];
        printf("sample %zu: output %zu, logit %.9g, conserved to %.1e\n", n, target,
               relc_logits(explanation)[n * outputs + target], relc_conservation_error(explanation, n));
        const char *warnings = relc_warnings(explanation, n);
        if (*warnings) printf("%s\n", warnings);
    }
    file = fopen(argv[3], "wb");
    if (!file || fwrite(relc_relevance(explanation), sizeof(float), shape[0] * sample, file) != shape[0] * sample)
        return fail(argv[3], NULL);
    fclose(file);
    relc_explanation_free(explanation);
    relc_explainer_free(explainer);
    return 0;
}
