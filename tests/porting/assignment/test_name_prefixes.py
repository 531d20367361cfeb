from frostline.porting.assignment.name_prefixes import refine

ANY = {"trunk.0.ln_1", "trunk.1.ln_1"}


def test_layers_stay_in_the_block_of_what_is_told():
    assigned = {"encoder_0_mlp": "trunk.0.fc", "encoder_1_mlp": "trunk.1.fc"}
    found = refine({"encoder_0_norm": ANY, "encoder_1_norm": ANY}, assigned)
    assert found == {"encoder_0_norm": {"trunk.0.ln_1"}, "encoder_1_norm": {"trunk.1.ln_1"}}


def test_other_blocks_say_nothing():
    assigned = {"encoder_0_mlp": "trunk.0.fc", "encoder_1_mlp": "trunk.0.fc_2"}
    candidates = {"encoder_0_norm": ANY, "encoder_1_norm": ANY}
    assert refine(candidates, assigned) == candidates
    assert refine(candidates, {}) == candidates
    assert refine(candidates, {"x": "y"}) == candidates


def test_a_layer_without_kin_on_one_side_is_left_for_what_has_other_kin():
    assigned = {"stem_conv": "entry.conv", "block_0_conv": "trunk.0.conv"}
    names = {"bn": {"entry.bn", "trunk.0.bn"}, "block_0_bn": {"entry.bn", "trunk.0.bn"}}
    assert refine(names, assigned) == {"bn": {"entry.bn"}, "block_0_bn": {"trunk.0.bn"}}


def test_blocks_that_differ_leave_their_own_shapes_alone():
    assigned = {"b_0_conv": "t.0.conv", "b_1_conv": "t.1.conv"}
    open_ = {"b_0_x": {"t.0.x", "t.0.y"}, "b_1_x": {"t.0.x", "t.0.y"}}
    clear = {"b_0_n": {"t.0.n", "t.1.n"}, "b_1_n": {"t.0.n", "t.1.n"}}
    assert refine(open_ | clear, assigned) == open_ | {"b_0_n": {"t.0.n"}, "b_1_n": {"t.1.n"}}


def test_blocks_may_lie_at_another_depth_of_names():
    assigned = {f"features/{at}/conv/{part}/0": f"body.{at}.convs.{part}" for at in range(2) for part in range(2)}
    assigned |= {f"features/{at}/conv/0/1": f"body.{at}.bns.0" for at in range(2)}
    any_of = {f"body.{at}.bns.2" for at in range(2)}
    found = refine({f"features/{at}/conv/2/1": any_of for at in range(2)}, assigned)
    assert found == {f"features/{at}/conv/2/1": {f"body.{at}.bns.2"} for at in range(2)}
