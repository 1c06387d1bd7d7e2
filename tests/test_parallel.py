"""What the processes of one training agree on: losses of a batch that they share, flags, positions."""

import multiprocessing
import os

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from slurm_cluster import free_port
from timm.layers import BatchNormAct2d

from ecsnet import parallel
from ecsnet.errors import UserError
from ecsnet.losses import segmentation_loss, tag_loss

LOGITS = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(0, 3, (4, 17, 17), generator=torch.Generator().manual_seed(1))
LABELS[0], LABELS[1, 3:] = 255, 255  # the halves of the batch have very different numbers of pixels
LABELS[2:][LABELS[2:] == 0] = 1  # and one has no background
TAGS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])


def losses(rows):
    """Losses of rows of the batch, and the gradient of their sum."""
    logits = LOGITS[rows].clone().requires_grad_()
    values = [segmentation_loss(logits, LABELS[rows], balanced) for balanced in (False, True)]
    values.append(tag_loss(logits[:, 1:], TAGS[rows]))
    sum(values).backward()
    return torch.stack(values).detach(), logits.grad


def mixed(rows, shared):
    """What layers that mix pictures, or draw, make of rows of the batch; all that they learn from it."""
    torch.manual_seed(3)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), BatchNormAct2d(8), torch.nn.Sequential(torch.nn.Dropout(0.5)),
        torch.nn.Conv2d(8, 2, 3), torch.nn.BatchNorm2d(2),
    ).to(torch.double, memory_format=torch.channels_last)  # fmt: skip
    keys = list(network.state_dict())
    shared(network)
    pictures = LOGITS.double().contiguous(memory_format=torch.channels_last)[rows].requires_grad_()
    torch.manual_seed(4)
    output = network(pictures)
    assert list(network.state_dict()) == keys
    (output**3).sum().backward()
    statistics = torch.stack([network[1].running_var.sum(), network[4].running_mean.sum()])
    weights = torch.cat([parameter.grad.flatten() for parameter in network.parameters()])
    return output.detach(), pictures.grad, weights, statistics


def work(rank, size, port, results):
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    os.environ["ECSNET_LAUNCHER"] = str(os.getppid())
    torch.set_num_threads(1)
    parallel.join()
    values, gradient = losses(list(parallel.part(range(4), 4)))
    flags = parallel.any_of(rank == 1, False)
    mixture = [part.numpy() for part in mixed(list(parallel.part(range(4), 4)), parallel.see_whole_batch)]
    results.put((parallel.rank(), values.numpy(), gradient.numpy(), flags, mixture))
    parallel.wait()
    parallel.leave()


@pytest.mark.parametrize("size", [2, 4])
def test_shares_are_those_of_the_whole_batch(size):
    context = multiprocessing.get_context("spawn")
    results, port = context.Queue(), free_port()
    processes = [context.Process(target=work, args=(rank, size, port, results)) for rank in range(size)]
    for process in processes:
        process.start()
    shares = sorted((results.get(timeout=60) for _ in processes), key=lambda share: share[0])
    for process in processes:
        process.join()
    values, gradient = losses(slice(None))
    torch.testing.assert_close(sum(torch.from_numpy(share[1]) for share in shares) / size, values)
    torch.testing.assert_close(torch.cat([torch.from_numpy(share[2]) for share in shares]) / size, gradient)
    assert [share[3] for share in shares] == [[True, False]] * size
    outputs, gradients, weights, statistics = zip(
        *(map(torch.from_numpy, share[4]) for share in shares), strict=True
    )
    output, gradient, weight, statistic = mixed(slice(None), lambda network: None)
    torch.testing.assert_close(torch.cat(outputs), output)
    torch.testing.assert_close(torch.cat(gradients), gradient)
    torch.testing.assert_close(sum(weights), weight)
    assert all(torch.equal(each, statistic) for each in statistics)


@given(st.integers(1, 8), st.integers(1, 5), st.integers(0, 3))
def test_parts_are_equal_and_together_the_batch(share, size, step):
    batch = range(step * share * size, (step + 1) * share * size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "size", lambda: size)
        parts = []
        for number in range(size):
            patch.setattr(parallel, "rank", lambda number=number: number)
            parts.append(list(parallel.part(batch, len(batch))))
        assert [position for part in parts for position in part] == list(batch)
        assert {len(part) for part in parts} == {share}
        if size > 1:
            with pytest.raises(UserError, match="cannot be shared equally"):
                parallel.part(batch, len(batch) + 1)


def test_synced_batch_norm_keeps_what_timm_put_into_its_layers():
    """timm's layers hold the activation too; torch's own conversion drops it."""
    network = timm.create_model("tf_efficientnet_lite0", num_classes=3).eval()
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = network(pictures)
        converted = parallel.convert_sync_batchnorm(network)
        torch.testing.assert_close(converted(pictures), before)
    kinds = {type(layer) for layer in converted.modules() if isinstance(layer, torch.nn.SyncBatchNorm)}
    assert kinds
    assert not any(type(layer) is torch.nn.BatchNorm2d for layer in converted.modules())


def test_one_process_is_itself():
    tensor = torch.tensor([1.0, 2.0])
    assert (parallel.size(), parallel.rank()) == (1, 0)
    assert parallel.total(tensor) is tensor
    assert parallel.any_of(True, False) == [True, False]
    assert parallel.part(range(6, 9), 3) == range(6, 9)
    layer = torch.nn.BatchNorm2d(2)
    parallel.see_whole_batch(layer)
    assert layer.training
    assert parallel.share_gradients(layer) is layer
