#include "tools/stop.h"

#include <signal.h>
#include <stdlib.h>

static volatile sig_atomic_t stop_signal; /* a handler can leave its word nowhere else */

static void on_signal(int sig) {
    if (stop_signal) _Exit(128 + sig);
    stop_signal = sig;
}

void stop_listen(void) { signal(SIGINT, on_signal), signal(SIGTERM, on_signal); }

int stop_asked(void) { return stop_signal; }
