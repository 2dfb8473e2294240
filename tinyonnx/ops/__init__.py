"""The operators of ONNX, one module per family.

Importing this package registers the families that most models need; the registry imports `others`
when it is asked for any other operator. Names that begin with an underscore are shared helpers.

Registered at once:
    activation    activations, Softmax, LogSoftmax, Hardmax
    cast          Cast, CastLike, BitCast
    conv          Conv, ConvTranspose
    fused         convolutions and products with activations and residuals, made by the passes
    fused_attention  products of queries, keys and values, made by the passes
    gated         squeeze-and-excitation, made by the passes
    index         Gather, Scatter, OneHot, NonZero, Compress, Unique
    math          arithmetic, comparison, logic, bits, rounding, transcendental functions, CumSum, Clip
    matmul        MatMul, Gemm
    norm          normalisations, Dropout
    pad           Pad
    pool          pooling over windows and over images
    reduce        reductions, ArgMax, ArgMin
    resize        Resize, Upsample
    shape         Reshape, Transpose, Squeeze, Unsqueeze, Flatten, Expand, Tile, Shape, Size
    stem          the first convolutions of a mobile network, made by the passes
    tensor        Constant, Concat, Split, Slice, Range, TopK, Where

Registered by `others`:
    attention     Attention, FlexAttention, RotaryEmbedding, TensorScatter
    control       If, Loop, Scan, SequenceMap
    depth_space   DepthToSpace, SpaceToDepth
    detection     RoiAlign, MaxRoiPool, NonMaxSuppression
    einsum        Einsum
    gradient      Gradient
    linear_attention  LinearAttention, CausalConvWithState
    loss          NegativeLogLikelihoodLoss, SoftmaxCrossEntropyLoss
    quantize      QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear
    quantized     MatMulInteger, ConvInteger, QLinearMatMul, QLinearConv
    random        random numbers, Bernoulli, Multinomial
    recurrent     RNN, GRU, LSTM
    sampling      AffineGrid, GridSample, DeformConv
    sequence      sequences and optionals
    signal        DFT, STFT, windows, MelWeightMatrix
    text          strings, RegexFullMatch, TfIdfVectorizer
    training      Adagrad, Adam, Momentum
    vision        Col2Im, MaxUnpool, CenterCropPad, ImageDecoder
    microsoft     com.microsoft, ONNX Runtime's own domain: attention, grouped_attention, blocks (weights
                  quantised in blocks), fused, matmul, norm, quantized, recurrent
    ml            ai.onnx.ml: features, linear models, maps, support vector machines (svm), trees
"""

from tinyonnx.ops import (  # noqa: F401
    activation,
    cast,
    conv,
    fused,
    fused_attention,
    gated,
    index,
    math,
    matmul,
    norm,
    pad,
    pool,
    reduce,
    resize,
    shape,
    stem,
    tensor,
)
