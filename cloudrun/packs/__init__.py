"""Keep a data set in a bucket: many small files as few large objects, sent once, verified, never half visible.

    push    a folder -> new content in append-only packs, an immutable manifest, a ref that is swung last
    pull    a manifest -> the folder again, each file checked by its hash
    gc      delete packs that no data set needs any more, in two steps with a period of grace between them

`docs/packs.md` has the format. Any `Objects` will do: a bucket of S3, or a directory.
"""
