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


def test_a_layer_without_kin_on_one_side_is_left_for_what_has_other_kin():
    told = {"stem_conv": "entry.conv", "block_0_conv": "trunk.0.conv"}
    names = {"bn": {"entry.bn", "trunk.0.bn"}, "block_0_bn": {"entry.bn", "trunk.0.bn"}}
    assert refine(names, told) == {"bn": {"entry.bn"}, "block_0_bn": {"trunk.0.bn"}}


def test_blocks_that_differ_leave_their_own_shapes_alone():
    told = {"b_0_conv": "t.0.conv", "b_1_conv": "t.1.conv"}
    open_ = {"b_0_x": {"t.0.x", "t.0.y"}, "b_1_x": {"t.0.x", "t.0.y"}}
    clear = {"b_0_n": {"t.0.n", "t.1.n"}, "b_1_n": {"t.0.n", "t.1.n"}}
    assert refine(open_ | clear, told) == open_ | {"b_0_n": {"t.0.n"}, "b_1_n": {"t.1.n"}}
