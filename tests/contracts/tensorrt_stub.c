/* Just enough of TensorRT's three libraries for its Python bindings to import: each entry point
 * they link against exists and gives nothing. Nothing can be built or run with it. */

#include <stddef.h>

#define GIVES_NOTHING(name) \
    void *name(void) { return NULL; }

GIVES_NOTHING(createInferBuilder_INTERNAL)
GIVES_NOTHING(createInferRefitter_INTERNAL)
GIVES_NOTHING(createInferRuntime_INTERNAL)
GIVES_NOTHING(createNvOnnxParser_INTERNAL)
GIVES_NOTHING(createNvOnnxParserRefitter_INTERNAL)
GIVES_NOTHING(getBuilderPluginRegistry)
GIVES_NOTHING(getPluginRegistry)
GIVES_NOTHING(initLibNvInferPlugins)

int getInferLibVersion(void) { return 110400; }

int getNvOnnxParserVersion(void) { return 0; }
