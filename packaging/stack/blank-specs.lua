-- Blanks in dockerd's answers what services consist of: environments, arguments, mounts, names of secrets.
--
-- Whatever is between the braces of "ContainerSpec":{...}, "PluginSpec":{...} and the like, of "LogDriver":{...} and
-- "DriverOpts":{...} becomes blanks, so an answer keeps its length and stays JSON. It may be large and arrives in
-- pieces: the state of the search is kept from one to the next. Docker writes no blanks between a key, its colon and
-- its value (Go's encoding/json), and inside of a text a quote is always escaped: such bytes are nothing but such a key.

local KEY = '"(%a+)":{'
-- Beside those that end with "Spec". The options of a log driver may be a token of the log's server.
local OTHERS = {LogDriver = true, DriverOpts = true}
local LONGEST_KEY = 64

local BlankSpecs = {id = "blank specs", flags = filter.FLT_CFG_FL_HTX}
BlankSpecs.__index = BlankSpecs

function BlankSpecs:new()
    -- depth: of open braces inside a spec, 0: outside; tail: the end of the last piece, which may begin the key.
    return setmetatable({depth = 0, quoted = false, escaped = false, tail = ""}, BlankSpecs)
end

function BlankSpecs:start_analyze(txn, channel)
    if channel:is_resp() then
        filter.register_data_filter(self, channel)
    end
end

-- The opening brace of the first spec of a text; nil: it has none.
local function find_brace(text)
    local at = 1
    while true do
        local _, brace, key = text:find(KEY, at)
        if not brace or OTHERS[key] or key:find("%aSpec$") then return brace end
        at = brace
    end
end

-- Where the spec ends in this piece (its closing brace), from a position on; nil: not in this piece.
function BlankSpecs:find_end(text, at)
    while at <= #text do
        if self.escaped then
            self.escaped = false
            at = at + 1
        elseif self.quoted then
            local mark = text:find('["\\]', at)
            if not mark then return nil end
            self.escaped = text:byte(mark) == 92
            self.quoted = self.escaped
            at = mark + 1
        else
            local mark = text:find('["{}]', at)
            if not mark then return nil end
            local byte = text:byte(mark)
            if byte == 34 then
                self.quoted = true
            elseif byte == 123 then
                self.depth = self.depth + 1
            else
                self.depth = self.depth - 1
                if self.depth == 0 then return mark end
            end
            at = mark + 1
        end
    end
    return nil
end

-- One piece with its specs blanked.
function BlankSpecs:blank(piece)
    local done, at = {}, 1
    while at <= #piece do
        if self.depth > 0 then
            local last = self:find_end(piece, at)
            done[#done + 1] = string.rep(" ", (last or #piece + 1) - at)
            if not last then return table.concat(done) end
            at = last
            self.tail = ""
        else
            local searched = self.tail .. piece:sub(at)
            local brace = find_brace(searched)
            if not brace then
                done[#done + 1] = piece:sub(at)
                self.tail = searched:sub(-LONGEST_KEY)
                return table.concat(done)
            end
            local next = at + brace - #self.tail
            done[#done + 1] = piece:sub(at, next - 1)
            self.depth, at = 1, next
        end
    end
    return table.concat(done)
end

function BlankSpecs:http_payload(txn, message)
    local piece = message:body()
    if piece and #piece > 0 then
        message:set(self:blank(piece), 0, #piece)
    end
end

core.register_filter("blank-specs", BlankSpecs, function(filter, arguments)
    return filter
end)
