"""A chat model as judge: the request, the prompt and its score, the replies on disk, and the ratings made of them."""
