"""INT8's ranges for a weakly typed TensorRT: read from a cache, or measured on the GPU by
TensorRT's own entropy calibration.
"""

from base import RefusedError, write_whole


def from_cache(trt, path):
    with open(path, "rb") as file:
        text = file.read()

    class FromCache(trt.IInt8EntropyCalibrator2):
        def __init__(self):
            trt.IInt8EntropyCalibrator2.__init__(self)

        def get_batch_size(self):
            return 1

        def get_batch(self, names):
            return None  # asked for only if the cache were not taken

        def read_calibration_cache(self):
            return text

        def write_calibration_cache(self, cache):
            pass

    return FromCache()


def native(trt, images, batch, path):
    """Full batches of a float32 .npy (n, 3, height, width), one on the GPU at a time; TensorRT's
    cache is kept at `path`.

    A GPU context must be current.
    """
    import numpy as np
    import pycuda.driver as cuda

    data = np.load(images, mmap_mode="r")
    if len(data) < batch:
        raise RefusedError(
            "data",
            "calibration needs at least one batch of {} images and has {}".format(batch, len(data)),
        )

    class Native(trt.IInt8EntropyCalibrator2):
        def __init__(self):
            trt.IInt8EntropyCalibrator2.__init__(self)
            self.at = 0
            self.memory = cuda.mem_alloc(data[:batch].nbytes)

        def get_batch_size(self):
            return batch

        def get_batch(self, names):
            rows = data[self.at : self.at + batch]
            if len(rows) < batch:
                self.memory.free()
                return None
            self.at += batch
            cuda.memcpy_htod(self.memory, np.ascontiguousarray(rows))
            return [int(self.memory)]

        def read_calibration_cache(self):
            return None

        def write_calibration_cache(self, cache):
            write_whole(path, bytes(cache))

    return Native()
