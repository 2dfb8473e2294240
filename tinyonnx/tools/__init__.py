"""Looking inside: what a model is, what its layers compute, where two models part, where time goes.

Each module is a library call and its result; `tinyonnx.commands` prints them.

feeds     inputs from files, shapes and seeds       costs     multiplications, parameters, bytes
inspect   nodes, plan, passes                       trace     statistics of every activation
compare   layer by layer against another runtime    profile   time per step
oracles   results of onnx's reference, onnxruntime  report    all of it on one HTML page

    session = tinyonnx.InferenceSession("model.onnx")
    feeds = make_feeds(session, dims={"time": 1000})
    comparison = compare_layers(session, feeds, reference_values("model.onnx", feeds))
    print(comparison.first_over(1e-4), comparison.worst)
"""
