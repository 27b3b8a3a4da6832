// A compiled model as a function of TVM's runtime, for boards behind a tracker: `bicompile_run`
// takes three tensors: input, output, workspace. The ABI is that of tvm_ffi/c_api.h and dlpack.h.

typedef struct {
  void *data;
  int device[2];
  int dimensions;
  unsigned dtype;
  long *shape, *strides;
  unsigned long byte_offset;
} tensor;

typedef struct {
  int type;
  unsigned padding;
  union {
    const tensor *tensor;
    const char *object;
  };
} any;

enum { NONE = 0, TENSOR_POINTER = 7, OBJECT_HEADER = 24 };

void ENTRY(const float *input, float *output, void *workspace);

static void *data_of(const any *value) {
  const tensor *of = value->type == TENSOR_POINTER
                         ? value->tensor
                         : (const tensor *)(value->object + OBJECT_HEADER);
  return (char *)of->data + of->byte_offset;
}

int __tvm_ffi_bicompile_run(void *self, const any *arguments, int count, any *result) {
  (void)self;
  (void)count;
  ENTRY(data_of(&arguments[0]), data_of(&arguments[1]), data_of(&arguments[2]));
  result->type = NONE;
  result->padding = 0;
  return 0;
}
