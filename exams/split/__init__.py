"""The exam of splitting: models that other people wrote, cut at three places, cached, and compared with themselves."""
