"""What automatic differentiation keeps in memory."""

from torch import nn
from torch.autograd.graph import saved_tensors_hooks


def saved_bytes(work):
    """The bytes that automatic differentiation keeps of what `work` computes, weights aside."""
    sizes = {}

    def record(tensor):
        if not isinstance(tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(record, lambda tensor: tensor):
        kept = work()  # alive until all is counted, so that no two storages have one address
    del kept
    return sum(sizes.values())
