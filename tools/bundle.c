#include "tools/bundle.h"

#include "tensor/io/sys.h"
#include <stdio.h>
#include <string.h>

int bundle_find(const char *program, const char *what, char *path, size_t cap, tn_err *err) {
    static const char *const beside[] = {"../testdata", "../share/oneword"};
    const char *slash = strrchr(program, '/');
    int folder = slash ? (int)(slash - program) : 1;
    if (snprintf(path, cap, "testdata/%s", what) < (int)cap && tn_exists(path)) return 0;
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
        if (snprintf(path, cap, "%.*s/%s/%s", folder, slash ? program : ".", beside[i], what) < (int)cap && tn_exists(path)) return 0;
    }
    return tn_fail(err, TN_EIO, "testdata/%s: not found here or next to the program (run it in the source tree)", what);
}
