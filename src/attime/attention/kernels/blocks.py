r"""Block-sparse softmax attention from a list of key blocks per query block.

    o_i = sum_{j seen by i} softmax_j(q_i k_j^T / sqrt(d)) v_j        lse_i = log sum_j exp(q_i k_j^T / sqrt(d))

A query that sees nothing gives o = 0 and lse = -inf. Heads of queries may be a multiple of the heads of keys and values
(grouped queries). The public calls:

    attend_blocks(q, k, v, span.blocks(time))                  # -> out
    attend_blocks(q, k, v, blocks, with_lse=True)              # -> (out, lse), to be merged: see kernels.merge
    attend_blocks_naive(q, k, v, blocks)                       # the equation, with a dense mask

Source: FlashAttention, arXiv 2205.14135 (recomputing the backward pass from lse).
"""
