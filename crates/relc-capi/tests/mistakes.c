// Mistakes are errors with a message, never a crash; threads share an explainer.

#include <relc.h>

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REQUIRE(what)                                                        \
    do {                                                                     \
        if (!(what)) {                                                       \
            fprintf(stderr, "line %d: not so: %s\n", __LINE__, #what);       \
            exit(1);                                                         \
        }                                                                    \
    } while (0)

static relc_explainer *explainer;
static float input[3 * 64 * 64];
static float expected[3 * 64 * 64];

// By its address: in which order arguments are evaluated is for the compiler to choose.
static void refused(relc_explanation *explanation, char **error, const char *says) {
    REQUIRE(explanation == NULL && *error != NULL);
    if (!strstr(*error, says)) {
        fprintf(stderr, "expected \"%s\" in \"%s\"\n", says, *error);
        exit(1);
    }
    relc_string_free(*error);
    *error = NULL;
}

static void *explain(void *unused) {
    size_t shape[4] = {1, 3, 64, 64};
    for (int round = 0; round < 5; round++) {
        relc_explanation *explanation = relc_explain(explainer, input, shape, 4, NULL, NULL);
        REQUIRE(explanation != NULL);
        REQUIRE(memcmp(relc_relevance(explanation), expected, sizeof expected) == 0);
        relc_explanation_free(explanation);
    }
    return unused;
}

int main(int argc, char **argv) {
    REQUIRE(argc == 2);
    char *error = NULL;
    REQUIRE(relc_load(NULL, NULL, &error) == NULL);
    refused(NULL, &error, "path: got NULL");
    REQUIRE(relc_load("\xff.relc", NULL, &error) == NULL);
    refused(NULL, &error, "path: got a string that is not UTF-8");
    REQUIRE(relc_load(argv[1], "no_such_preset", &error) == NULL);
    refused(NULL, &error, "no_such_preset");
    REQUIRE(relc_load("no/such", NULL, NULL) == NULL);

    explainer = relc_load(argv[1], NULL, &error);
    REQUIRE(explainer != NULL);
    REQUIRE(relc_input_rank(explainer) == 4 && relc_input_size(explainer, 0) == 0 && relc_input_size(explainer, 1) == 3);
    REQUIRE(relc_input_size(explainer, 3) == 64 && relc_input_size(explainer, 4) == 0 && relc_outputs(explainer) == 8);
    REQUIRE(strlen(relc_input_name(explainer)) > 0 && strlen(relc_version()) >= 5);

    size_t shape[4] = {1, 3, 64, 64}, wrong[4] = {1, 3, 64, 65}, huge[4] = {(size_t)-1, 3, 64, 64}, none[4] = {0, 3, 64, 64};
    size_t target = 8;
    refused(relc_explain(NULL, input, shape, 4, NULL, &error), &error, "explainer: got NULL");
    refused(relc_explain(explainer, NULL, shape, 4, NULL, &error), &error, "input: got NULL");
    refused(relc_explain(explainer, input, NULL, 4, NULL, &error), &error, "input: got NULL");
    refused(relc_explain(explainer, input, shape, 3, NULL, &error), &error, "expected");
    refused(relc_explain(explainer, input, shape, 1000, NULL, &error), &error, "1000 sizes");
    refused(relc_explain(explainer, input, wrong, 4, NULL, &error), &error, "[1, 3, 64, 65], expected");
    refused(relc_explain(explainer, input, huge, 4, NULL, &error), &error, "more values than memory");
    refused(relc_explain(explainer, input, shape, 4, &target, &error), &error, "target 8 is out of range");
    relc_explanation *empty = relc_explain(explainer, input, none, 4, NULL, &error);
    if (empty == NULL) refused(empty, &error, "");
    relc_explanation_free(empty);
    input[7] = NAN;
    refused(relc_explain(explainer, input, shape, 4, NULL, &error), &error, "finite");
    REQUIRE(relc_relevance(NULL) == NULL && relc_map(NULL) == NULL && relc_logits(NULL) == NULL && relc_targets(NULL) == NULL);
    REQUIRE(relc_input_rank(NULL) == 0 && relc_outputs(NULL) == 0 && relc_input_name(NULL) == NULL);
    REQUIRE(isnan(relc_conservation_error(NULL, 0)) && relc_warnings(NULL, 0) == NULL);
    relc_explainer_free(NULL);
    relc_explanation_free(NULL);
    relc_string_free(NULL);

    for (size_t at = 0; at < sizeof input / sizeof *input; at++) input[at] = sinf((float)at * 0.37f);
    relc_explanation *explanation = relc_explain(explainer, input, shape, 4, NULL, &error);
    REQUIRE(explanation != NULL && relc_map(explanation) != NULL && relc_warnings(explanation, 1) == NULL);
    REQUIRE(relc_conservation_error(explanation, 0) < 1e-4 && isnan(relc_conservation_error(explanation, 1)));
    memcpy(expected, relc_relevance(explanation), sizeof expected);
    relc_explanation_free(explanation);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) REQUIRE(pthread_create(&threads[i], NULL, explain, NULL) == 0);
    for (int i = 0; i < 4; i++) REQUIRE(pthread_join(threads[i], NULL) == 0);
    relc_explainer_free(explainer);
    return 0;
}
