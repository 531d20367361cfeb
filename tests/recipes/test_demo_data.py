from frostline.recipes.demo_data import few_per_class, load_digits_task


def test_the_two_tasks_share_no_image():
    train, test = load_digits_task(range(5, 10))
    keys = [{data.sample_key(at) for at in range(len(data))} for data in (train, test)]
    assert keys[0].isdisjoint(keys[1])
    assert train.inputs.shape[1:] == (1, 32, 32)
    assert few_per_class(train, 5, 0).labels.bincount().tolist() == [5] * 5
