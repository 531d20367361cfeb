import torch

from frostline.training.confusion import Confusion, write_confusion


def test_counts_are_those_of_all_batches_without_ignored_labels(tmp_path):
    confusion = Confusion()
    assert confusion.matrix is None
    confusion.add(torch.eye(3)[[0, 1, 1]], torch.tensor([0, 0, -100]))
    confusion.add(torch.eye(3)[[2, 1]], torch.tensor([2, 0]))
    assert confusion.matrix.tolist() == [[1, 2, 0], [0, 0, 0], [0, 0, 1]]
    write_confusion(tmp_path / "new" / "confusion.csv", confusion.matrix, ["a", "b, c", "d"])
    lines = (tmp_path / "new" / "confusion.csv").read_text().splitlines()
    assert lines == ['true \\ predicted,a,"b, c",d', "a,1,2,0", '"b, c",0,0,0', "d,0,0,1"]


def test_classes_without_names_have_numbers(tmp_path):
    for classes in (None, ["one"]):
        write_confusion(tmp_path / "c.csv", torch.tensor([[1, 0], [2, 3]]), classes)
        assert (tmp_path / "c.csv").read_text().splitlines()[1:] == ["0,1,0", "1,2,3"]


def test_the_label_of_the_loss_is_left_out_and_tables_nobody_reads_are_not_made():
    confusion = Confusion(ignored=1)
    confusion.add(torch.eye(2), torch.tensor([0, 1]))
    assert confusion.matrix.tolist() == [[1, 0], [0, 0]]
    large = Confusion()
    large.add(torch.zeros(1, 1001), torch.tensor([3]))
    assert large.matrix is None
