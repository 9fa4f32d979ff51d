/* The version of the program, its output formats and its files. */
#ifndef TOOLS_VERSION_H
#define TOOLS_VERSION_H

#define ONEWORD_VERSION "0.1.0"

#endif
