from frostline.porting.assignment.kinship import refine

ANY = {"trunk.0.ln_1", "trunk.1.ln_1"}


def test_layers_stay_in_the_block_of_what_is_told():
    told = {"encoder_0_mlp": "trunk.0.fc", "encoder_1_mlp": "trunk.1.fc"}
    found = refine({"encoder_0_norm": ANY, "encoder_1_norm": ANY}, told)
    assert found == {"encoder_0_norm": {"trunk.0.ln_1"}, "encoder_1_norm": {"trunk.1.ln_1"}}


def test_other_blocks_say_nothing():
    told = {"encoder_0_mlp": "trunk.0.fc", "encoder_1_mlp": "trunk.0.fc_2"}
    candidates = {"encoder_0_norm": ANY, "encoder_1_norm": ANY}
    assert refine(candidates, told) == candidates
    assert refine(candidates, {}) == candidates
    assert refine(candidates, {"x": "y"}) == candidates
