"""Sum gradients over the processes of a run, bucket by bucket, during the backward pass.

torch's DistributedDataParallel does this, too, but where one process runs out of memory in the middle of a backward
pass, the others wait for its part for ever. Here that process sends what it has, all processes agree that the step is
void, and repeat it with a smaller micro-batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from trainer.distributed.ranks import Ranks, peers

# As in torch's DistributedDataParallel: the first bucket is small, so that sending begins early.
_FIRST_BUCKET_BYTES, _BUCKET_BYTES = 1 << 20, 25 << 20


class GradientSync:
    """Sum the gradients of `model` over the processes, and average the statistics of its batch norms.

    Gradients are stored in a few long buffers. Calls of a step: `zero`, backward passes, with `arm` before the last,
    `finish`.
    """

    def __init__(self, model: nn.Module, ranks: Ranks) -> None:
        """Give all processes the weights of the main process. Raises PeerLost."""
        with peers():
            for value in model.state_dict().values():
                dist.broadcast(value, src=0)
        self._world = ranks.world
        self._statistics = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._buckets = [_Bucket(part) for part in _parts(trained[::-1])]  # roughly in the order of the backward pass
        self._sent, self._is_armed = 0, False
        self._sum_nothing()
        for bucket in self._buckets:
            for parameter in bucket.parameters:
                parameter.register_post_accumulate_grad_hook(self._noting(bucket))  # type: ignore[no-untyped-call]

    def match_memory_formats(self) -> None:
        """Rebuild the buffers after the parameters changed their memory format, the same in every process."""
        for bucket in self._buckets:
            bucket.match_memory_formats()

    def zero(self) -> None:
        """Set the gradients to 0; replaces the optimizer's `zero_grad`."""
        self._sent, self._is_armed = 0, False
        for bucket in self._buckets:
            bucket.zero()

    def arm(self) -> None:
        """Mark the next backward pass as the last of the step: gradients that it completes are sent."""
        self._is_armed = True

    def finish(self, *sums: Tensor) -> tuple[Tensor, ...]:
        """Wait until all gradients are sums over the processes. `sums`: scalars to sum, too. Raises PeerLost.

        Also after a backward pass that was cut short: buckets that were not sent are sent as they are.
        """
        while self._sent < len(self._buckets):
            self._send_next()
        summed = self._share(sums)
        with peers():
            for bucket in self._buckets:
                bucket.wait()
        return summed

    def average_statistics(self) -> None:
        """Average the statistics of batch norms over the processes, outside a step. Raises PeerLost."""
        self._share(())

    def _sum_nothing(self) -> None:
        """Use each bucket once: NCCL allocates memory at first use, which must be before memory is measured."""
        with peers():
            for bucket in self._buckets:
                bucket.send()
                bucket.wait()

    def _noting(self, bucket: _Bucket) -> Callable[[Tensor], None]:
        def note(_: Tensor) -> None:
            if not self._is_armed:
                return
            bucket.missing -= 1
            # In the same order in all processes, whichever bucket is complete first.
            while self._sent < len(self._buckets) and not self._buckets[self._sent].missing:
                self._send_next()

        return note

    def _send_next(self) -> None:
        with peers():
            self._buckets[self._sent].send()
        self._sent += 1

    def _share(self, sums: Sequence[Tensor]) -> tuple[Tensor, ...]:
        flat = torch.cat(
            [*(value.detach().reshape(1).float() for value in sums), *map(torch.flatten, self._statistics)]
        )
        with peers():
            dist.all_reduce(flat)
        counts = [buffer.numel() for buffer in self._statistics]
        summed, *means = torch.split(flat, [len(sums), *counts])
        if means:
            torch._foreach_div_(means, self._world)
            shaped = [mean.view_as(buffer) for mean, buffer in zip(means, self._statistics, strict=True)]
            torch._foreach_copy_(self._statistics, shaped)
        return tuple(part.to(value.dtype) for part, value in zip(summed.unbind(), sums, strict=True))


class _Bucket:
    """Gradients of `parameters` in one buffer, in their memory formats, as the fused optimizer needs them."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = parameters
        self.missing = len(parameters)
        self._flat = torch.zeros(sum(parameter.numel() for parameter in parameters)).to(parameters[0])
        self._views: list[Tensor] = []
        self.match_memory_formats()
        self._work: dist.Work | None = None

    def match_memory_formats(self) -> None:
        self._views, place = [], 0
        for parameter in self.parameters:
            self._views.append(torch.as_strided(self._flat, parameter.size(), parameter.stride(), place))
            place += parameter.numel()

    def zero(self) -> None:
        self.missing, self._work = len(self.parameters), None
        self._flat.zero_()
        for parameter, view in zip(self.parameters, self._views, strict=True):
            parameter.grad = view

    def send(self) -> None:
        self._work = dist.all_reduce(self._flat, async_op=True)

    def wait(self) -> None:
        assert self._work is not None
        self._work.wait()


def _parts(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    part: list[nn.Parameter] = []
    size, limit = 0, _FIRST_BUCKET_BYTES
    for parameter in parameters:
        part.append(parameter)
        size += parameter.numel() * parameter.element_size()
        if size >= limit:
            yield part
            part, size, limit = [], 0, _BUCKET_BYTES
    if part:
        yield part
