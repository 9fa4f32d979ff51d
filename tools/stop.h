/* Ctrl-C and SIGTERM as a request: the run ends behind the step that it is in, and saves what it has. The second signal
 * leaves at once, which loses what came after the last checkpoint. */
#ifndef TOOLS_STOP_H
#define TOOLS_STOP_H

void stop_listen(void);
/* The signal that came, 0: none. The exit status of a run that was stopped is 128 + this. */
int stop_asked(void);

#endif
