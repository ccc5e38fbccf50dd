"""The API of OpenAI, as its clients speak it: models, completions, chat, embeddings."""
