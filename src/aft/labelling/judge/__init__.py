"""A chat model as judge: requests, the prompt and its score, the cache of replies, and the ratings."""
