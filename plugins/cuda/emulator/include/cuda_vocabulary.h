// The words of CUDA C, for g++. It stands before the text of the kernels, which includes NVIDIA's
// headers, too: vectors and 16-bit floats are NVIDIA's own, compiled for the host. What is here are
// the words that those headers have only for a GPU.
#pragma once
// NVIDIA's headers, before anything says that this is a GPU.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <vector_functions.h>
#include <vector_types.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "atomics.h"
#include "device_math.h"
#include "kernels.h"
#include "ptx.h"
#include "qualifiers.h"
#include "threads.h"
#include "warp.h"
