// Explains a batch of arrays by a compiled explainer, from C.
//
//   explain MODEL.relc INPUT.f32 OUT.f32 [TARGET]
//
// INPUT.f32 holds the samples as the model takes them, f32 in the machine's order of bytes, row-major; OUT.f32 gets their
// relevance in the same form. An ONNX model does in place of the artifact, and is compiled first.
//
// With `cc -DMODEL=resnet50 -include resnet50.h` the model is one that is linked into the program (`relc compile --emit
// staticlib -o libresnet50.a`), and MODEL.relc is left out:
//
//   explain INPUT.f32 OUT.f32 [TARGET]

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
    char *error = NULL;
#ifdef MODEL
    const char *usage = "INPUT.f32 OUT.f32 [TARGET]", *model = argv[0];
    const int at = 1;
#else
    const char *usage = "MODEL.relc INPUT.f32 OUT.f32 [TARGET]", *model = argc > 1 ? argv[1] : "";
    const int at = 2;
#endif
    if (argc < at + 2) {
        fprintf(stderr, "usage: %s %s\n", argv[0], usage);
        return 2;
    }
    const char *in = argv[at], *out = argv[at + 1], *target = argc > at + 2 ? argv[at + 2] : NULL;
#ifdef MODEL
    relc_explainer *explainer = relc_load_model(&MODEL, &error);
#else
    relc_explainer *explainer = relc_load(model, NULL, &error);
#endif
    if (!explainer) return fail(model, error);
    printf("%zu kernels compiled\n", relc_kernels_compiled(explainer));

    // How many values a sample has, and how many samples the file.
    size_t rank = relc_input_rank(explainer), sample = 1, shape[16];
    for (size_t axis = 1; axis < rank && axis < 16; axis++) {
        shape[axis] = relc_input_size(explainer, axis);
        sample *= shape[axis];
    }
    FILE *file = fopen(in, "rb");
    if (!file) return fail(in, NULL);
    fseek(file, 0, SEEK_END);
    long bytes = ftell(file);
    rewind(file);
    size_t values = (size_t)bytes / sizeof(float);
    shape[0] = values / sample;
    float *input = malloc(values * sizeof(float) + 1);
    if (!input || fread(input, sizeof(float), values, file) != values) return fail(in, NULL);
    fclose(file);

    size_t *targets = NULL;
    if (target) {
        targets = malloc(shape[0] * sizeof(size_t) + 1);
        for (size_t n = 0; n < shape[0]; n++) targets[n] = (size_t)strtoull(target, NULL, 10);
    }
    relc_explanation *explanation = relc_explain(explainer, input, shape, rank, targets, &error);
    free(input);
    free(targets);
    if (!explanation) {
        relc_explainer_free(explainer);
        return fail(in, error);
    }

    size_t outputs = relc_outputs(explainer);
    for (size_t n = 0; n < shape[0]; n++) {
        size_t explained = relc_targets(explanation)[n];
        printf("sample %zu: output %zu, logit %.9g, conserved to %.1e\n", n, explained,
               relc_logits(explanation)[n * outputs + explained], relc_conservation_error(explanation, n));
        const char *warnings = relc_warnings(explanation, n);
        if (*warnings) printf("%s\n", warnings);
    }
    file = fopen(out, "wb");
    if (!file || fwrite(relc_relevance(explanation), sizeof(float), shape[0] * sample, file) != shape[0] * sample)
        return fail(out, NULL);
    fclose(file);
    relc_explanation_free(explanation);
    relc_explainer_free(explainer);
    return 0;
}
