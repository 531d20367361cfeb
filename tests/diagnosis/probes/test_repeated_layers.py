from torch import nn

from frostline.diagnosis.probes.repeated_layers import shared_layers


def test_one_module_in_several_places_is_named_once():
    block = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    model = nn.ModuleList([block] * 3)
    assert shared_layers(model) == ((("0", "1", "2"), "layer"),)


def test_a_parameter_of_two_layers_is_named():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    assert shared_layers(model) == ((("0.weight", "1.weight"), "parameter"),)


def test_output_matrices_of_embeddings_and_shared_activations_are_none():
    tied = nn.ModuleDict({"table": nn.Embedding(5, 4), "out": nn.Linear(4, 5, bias=False)})
    tied["out"].weight = tied["table"].weight
    assert shared_layers(tied) == ()
    activation = nn.ReLU()
    assert shared_layers(nn.Sequential(nn.Linear(2, 2), activation, nn.Linear(2, 2), activation)) == ()
